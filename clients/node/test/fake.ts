import { createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { type Client, type ClientOptions, createClient } from "leadgate";

/** A gRPC server in this process, and a client that is connected to it. */
export interface Fake {
  address: string;
  client: Client;
  /** The open connections. */
  sessions: Set<ServerHttp2Session>;
  /** The connections that were opened. */
  accepted: () => number;
  close: () => Promise<void>;
}

export async function startFake(routes: (router: ConnectRouter) => void, options: ClientOptions = {}): Promise<Fake> {
  const sessions = new Set<ServerHttp2Session>();
  let accepted = 0;
  const server = createServer(connectNodeAdapter({ routes, connect: false, grpcWeb: false }));
  server.on("session", (session) => {
    accepted += 1;
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = createClient({ address, insecure: true, ...options });
  const close = async () => {
    client.close();
    for (const session of sessions) {
      session.destroy();
    }
    await new Promise((resolve) => server.close(resolve));
  };
  return { address, client, sessions, accepted: () => accepted, close };
}
