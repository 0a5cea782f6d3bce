import { setMaxListeners } from "node:events";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { SecureClientSessionOptions } from "node:http2";
import { createSecureContext } from "node:tls";
import type { DescMethodServerStreaming, DescMethodUnary, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Caller, type CallOptions, type Criticality, headers, setHeader, type Timeouts } from "./call.js";
import { ActivityService } from "./gen/leadgate/v1/activity_pb.js";
import { LeadService } from "./gen/leadgate/v1/lead_pb.js";
import { QuotaService } from "./gen/leadgate/v1/quota_pb.js";
import { RestService } from "./gen/leadgate/v1/rest_pb.js";
import { ShareService } from "./gen/leadgate/v1/share_pb.js";
import { UserService } from "./gen/leadgate/v1/user_pb.js";
import { importLeads, type ImportResult, type ImportRow } from "./import.js";

/** Default interval of the PINGs while RPCs are in progress, in milliseconds. */
export const KEEPALIVE_MS = 30_000;

/** The options of a client. */
export interface ClientOptions {
  /** `host:port`, such as `leadgate.internal:443`. Without a port: 443. Required unless `transport` is set. */
  readonly address?: string;
  /** An API key or a JSON Web Token, or a function that returns the current one. It is called for each attempt. */
  readonly token?: string | (() => string | Promise<string>);
  /** A file with the API key or the token. It is read for each attempt, so a new token needs no restart. While it is empty or absent, the last token is used. */
  readonly tokenFile?: string;
  /** The CA certificates that the gateway's certificate must be issued by: the path of a PEM file, or its content. Default: those of Node.js. */
  readonly ca?: string | Buffer;
  /** The client certificate and its key: the paths of PEM files, or their content. */
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  /** Connects without TLS, and sends the token, if there is one, without encryption. For local work. */
  readonly insecure?: boolean;
  /** The account. Required if the caller may use more than one. */
  readonly tenant?: string;
  /** The name of the caller, for gateways with `auth.mode = "none"`. */
  readonly caller?: string;
  readonly criticality?: Criticality;
  readonly timeouts?: Timeouts;
  /** Interval of the PINGs while RPCs are in progress, in milliseconds. At least the gateway's `server.keepalive_min_interval`. Default: 30 s. */
  readonly keepaliveMs?: number;
  /** Interceptors of each attempt, for example for traces. */
  readonly interceptors?: Interceptor[];
  /** Further options of the connection, such as `servername`. */
  readonly nodeOptions?: SecureClientSessionOptions;
  /** A transport to use as it is, in place of a connection: for tests with `createRouterTransport`. */
  readonly transport?: Transport;
}

/** The RPCs of a service as methods. */
export type ServiceClient<S extends DescService> = {
  readonly [P in keyof S["method"]]: S["method"][P] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : S["method"][P] extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncGenerator<MessageShape<O>, void, undefined>
      : (rows: Iterable<ImportRow> | AsyncIterable<ImportRow>, options?: CallOptions) => AsyncGenerator<ImportResult, void, undefined>;
};

/** A client of leadgate. All methods reject with LeadgateError. */
export interface Client {
  readonly leads: ServiceClient<typeof LeadService>;
  readonly shares: ServiceClient<typeof ShareService>;
  readonly activities: ServiceClient<typeof ActivityService>;
  readonly users: ServiceClient<typeof UserService>;
  readonly quota: ServiceClient<typeof QuotaService>;
  readonly rest: ServiceClient<typeof RestService>;
  /** The transport with the credentials, for `createClient` of @connectrpc/connect. It has no retries, request ids and deadlines. */
  readonly transport: Transport;
  /** Closes the connection. Calls in progress fail. */
  close(): void;
}

/** Creates a client. It connects with the first call. */
export function createClient(options: ClientOptions): Client {
  const closing = new AbortController();
  setMaxListeners(0, closing.signal); // One per call that waits for its next attempt.
  const { transport, disconnect } = options.transport ? { transport: options.transport, disconnect: () => {} } : connect(options, closing.signal);
  const caller = new Caller(transport, closing.signal, options.timeouts);
  return {
    leads: bind(caller, LeadService),
    shares: bind(caller, ShareService),
    activities: bind(caller, ActivityService),
    users: bind(caller, UserService),
    quota: bind(caller, QuotaService),
    rest: bind(caller, RestService),
    transport,
    close() {
      closing.abort();
      disconnect();
    },
  };
}

function bind<S extends DescService>(caller: Caller, service: S): ServiceClient<S> {
  const methods = service.methods.map((method) => {
    if (method.methodKind === "bidi_streaming") {
      return [method.localName, (rows: Iterable<ImportRow>, options?: CallOptions) => importLeads(caller, rows, options)];
    }
    const call = method.methodKind === "unary" ? caller.unary : caller.serverStream;
    return [method.localName, (call as Function).bind(caller, method)];
  });
  return Object.fromEntries(methods) as ServiceClient<S>;
}

function connect(options: ClientOptions, closed: AbortSignal): { transport: Transport; disconnect: () => void } {
  const { address, insecure = false, token, tokenFile } = options;
  if (!address || !/^(\[[0-9a-fA-F:.]+\]|[^\s:/@?#[\]]+)(:\d+)?$/.test(address)) {
    throw new TypeError(`address must be host:port, but is ${JSON.stringify(address)}`);
  }
  if (insecure && (options.ca || options.cert || options.key)) {
    throw new TypeError("insecure cannot be combined with ca, cert and key");
  }
  if (token !== undefined && tokenFile !== undefined) {
    throw new TypeError("set token or tokenFile, not both");
  }
  if ((options.cert === undefined) !== (options.key === undefined)) {
    throw new TypeError("cert and key must be set together");
  }
  const [ca, cert, key] = [readPem("ca", options.ca), readPem("cert", options.cert), readPem("key", options.key)];
  const tls = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), ...options.nodeOptions };
  try {
    createSecureContext(tls);
  } catch (cause) {
    throw new TypeError("ca, cert or key is invalid, or key is not the key of cert", { cause });
  }
  const readToken = tokenReader(token, tokenFile);
  const baseUrl = `${insecure ? "http" : "https"}://${/:\d+$/.test(address) ? address : `${address}:443`}`;
  const sessionManager = new Http2SessionManager(
    baseUrl,
    // The gateway closes a connection that is idle for 15 minutes (`server.max_connection_idle`).
    { pingIntervalMs: options.keepaliveMs ?? KEEPALIVE_MS, pingTimeoutMs: 10_000, idleConnectionTimeoutMs: 600_000 },
    // Node.js rejects streams above maxSessionMemory (MB), by default 10.
    { maxSessionMemory: 1_000, ...tls },
  );
  const credentials: Interceptor = (next) => async (request) => {
    if (closed.aborted) {
      throw new ConnectError("the client is closed", Code.Canceled);
    }
    headers(options).forEach((value, name) => request.header.has(name) || request.header.set(name, value));
    const secret = await readToken();
    if (secret) {
      setHeader(request.header, "authorization", `Bearer ${secret}`);
    }
    return next(request);
  };
  const interceptors = [...(options.interceptors ?? []), credentials];
  return { transport: createGrpcTransport({ baseUrl, sessionManager, interceptors }), disconnect: () => sessionManager.abort() };
}

/** Returns a function that reads the token. While a file is being replaced, the last token is used. */
function tokenReader(token: ClientOptions["token"], file: string | undefined): () => Promise<string | undefined> {
  let last = "";
  return async () => {
    try {
      if (file === undefined) {
        return (await (typeof token === "function" ? token() : token))?.trim();
      }
      last = (await readFile(file, "utf8")).trim() || last;
    } catch (cause) {
      if (!last) {
        throw new ConnectError("cannot read the token", Code.Unauthenticated, undefined, undefined, cause);
      }
    }
    if (!last) {
      throw new ConnectError("the token file is empty", Code.Unauthenticated);
    }
    return last;
  };
}

/** Returns PEM: the value itself, or the file that it names. */
function readPem(name: string, value: string | Buffer | undefined): string | Buffer | undefined {
  if (value === undefined) {
    return undefined;
  }
  const pem = typeof value === "string" && !value.includes("-----BEGIN ") ? readFileSync(value) : value;
  if (!pem.includes("-----BEGIN ")) {
    throw new TypeError(`${name} must be PEM, or the path of a PEM file`);
  }
  return pem;
}
