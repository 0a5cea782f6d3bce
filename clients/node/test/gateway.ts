import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const binary = process.env["LEADGATE_BIN"] ?? "leadgate";

/** A simulated LeadSquared and a gateway as processes of their own, with a store in a file. */
export interface Gateway {
  address: string;
  simulator: string;
  /** Kills the gateway without a warning. */
  kill(): Promise<void>;
  /** Starts the gateway again, on the same port with the same store. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export async function startGateway(options: { simulate?: string[]; server?: string; tenant?: string } = {}): Promise<Gateway> {
  const folder = await mkdtemp(join(tmpdir(), "leadgate-"));
  const simulate = spawn(binary, ["simulate", "--listen", "127.0.0.1:0", ...(options.simulate ?? [])], { stdio: ["ignore", "pipe", "inherit"] });
  const line = await firstLine(simulate, /http:\/\/(\S+)/);
  const simulator = line[1]!;
  const [grpc, admin] = await freePorts(2);
  const config = join(folder, "leadgate.toml");
  await writeFile(
    config,
    `[server]
listen = "127.0.0.1:${grpc}"
${options.server ?? ""}
[admin]
listen = "127.0.0.1:${admin}"
[store]
url = "sqlite://${join(folder, "leadgate.db")}"
[tenants.sim]
base_url = "http://${simulator}"
access_key = 'u$rSimulatorAccessKey'
secret_key = "simulator-secret-key"
${options.tenant ?? ""}
`,
  );
  let serve: ChildProcess;
  const start = async () => {
    serve = spawn(binary, ["serve", "--config", config], { stdio: ["ignore", "ignore", "pipe"] });
    await firstLine(serve, /"message":"serving"/);
  };
  const end = async (child: ChildProcess, signal: NodeJS.Signals) => {
    const closed = child.exitCode === null && child.signalCode === null ? once(child, "close") : undefined;
    child.kill(signal);
    await closed;
  };
  const killAll = () => [serve, simulate].forEach((child) => child?.kill("SIGKILL"));
  process.once("exit", killAll);
  await start();
  return {
    address: `127.0.0.1:${grpc}`,
    simulator,
    kill: () => end(serve, "SIGKILL"),
    start,
    async stop() {
      await end(serve, "SIGTERM");
      await end(simulate, "SIGTERM");
      process.off("exit", killAll);
      await rm(folder, { recursive: true });
    },
  };
}

/** Waits for a line of a process that matches, and reads its other lines. */
function firstLine(child: ChildProcess, pattern: RegExp): Promise<RegExpMatchArray> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => reject(new Error(`${child.spawnargs.join(" ")} ended with code ${code}`)));
    createInterface({ input: (child.stdout ?? child.stderr)! }).on("line", (line) => {
      const match = line.match(pattern);
      if (match) {
        resolve(match);
      }
    });
  });
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  servers.forEach((server) => server.close());
  return ports;
}

/** All leads of the simulated LeadSquared, as they are stored. */
export async function storedLeads(simulator: string): Promise<string> {
  return await (await fetch(`http://${simulator}/_simulator/leads`)).text();
}
