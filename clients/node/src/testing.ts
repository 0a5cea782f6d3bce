import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { type Code, ConnectError } from "@connectrpc/connect";
import type { ClientOptions } from "./client.js";
import type { ErrorResource, FieldViolation } from "./error.js";
import { BadRequestSchema, ErrorInfoSchema, ResourceInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

export interface DemoOptions {
  /** Uses TLS and checks tokens. Default: false. */
  readonly secure?: boolean;
  /** The leadgate binary. Default: the environment variable LEADGATE_BIN, else `leadgate` on PATH. */
  readonly binary?: string;
}

/** A running `leadgate demo`: a gateway with a simulated LeadSquared. */
export interface Demo {
  /** The address of the gateway, `host:port`. */
  readonly address: string;
  /** The address of the admin port: `/metrics`, the status page. */
  readonly admin: string;
  /** The address of the simulated LeadSquared: `http://SIMULATOR/_simulator/...` controls it. */
  readonly simulator: string;
  readonly tenant: string;
  /** Only with `secure`: files and credentials. */
  readonly caFile?: string;
  readonly token?: string;
  readonly apiKey?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** Options that connect to the demo: `createClient(demo.clientOptions)`. */
  readonly clientOptions: ClientOptions;
  /** Stops the processes and waits until they have ended. */
  stop(): Promise<void>;
}

/** Starts a demo on free ports. */
export async function startDemo(options: DemoOptions = {}): Promise<Demo> {
  const binary = options.binary ?? process.env["LEADGATE_BIN"] ?? "leadgate";
  const { line, stop } = await startProcess(binary, ["demo", "--quiet", ...(options.secure ? ["--secure"] : [])]);
  const { ca_file, cert_file, key_file, api_key, ...rest } = JSON.parse(line);
  return {
    ...rest,
    ...(options.secure && { caFile: ca_file, certFile: cert_file, keyFile: key_file, apiKey: api_key }),
    clientOptions: {
      address: rest.address,
      tenant: rest.tenant,
      ...(options.secure ? { ca: ca_file, token: rest.token } : { insecure: true }),
    },
    stop,
  };
}

type Hook = (run: () => Promise<void>, ...rest: never[]) => unknown;

/**
 * Starts a demo before the tests and stops it after them. The hooks are those of the test framework: `before` and `after` of
 * node:test, `beforeAll` and `afterAll` of Vitest. Returns a function that returns the demo inside of tests.
 */
export function useDemo(before: Hook, after: Hook, options?: DemoOptions): () => Demo {
  let demo: Demo | undefined;
  before(async () => {
    demo = await startDemo(options);
  });
  after(async () => {
    await demo?.stop();
  });
  return () => {
    if (!demo) {
      throw new Error("the demo has not started: use it inside of a test");
    }
    return demo;
  };
}

/** An error as leadgate returns it, for services of `createRouterTransport` and `connectNodeAdapter` in tests. */
export function gatewayError(
  code: Code,
  reason: string,
  options: {
    message?: string;
    metadata?: Record<string, string>;
    violations?: FieldViolation[];
    /** In milliseconds. */
    retryAfter?: number;
    resource?: ErrorResource;
  } = {},
): ConnectError {
  const { message = "made by a test", metadata = {}, violations, retryAfter, resource } = options;
  return new ConnectError(message, code, undefined, [
    { desc: ErrorInfoSchema, value: { domain: "leadgate", reason, metadata } },
    ...(violations ? [{ desc: BadRequestSchema, value: { fieldViolations: violations } }] : []),
    ...(retryAfter === undefined ? [] : [{ desc: RetryInfoSchema, value: { retryDelay: { seconds: BigInt(Math.trunc(retryAfter / 1_000)), nanos: (retryAfter % 1_000) * 1e6 } } }]),
    ...(resource ? [{ desc: ResourceInfoSchema, value: { resourceType: resource.type, resourceName: resource.name, description: resource.description } }] : []),
  ]);
}

/** Starts a process that runs until SIGTERM, and waits for its first line. */
async function startProcess(binary: string, args: string[]): Promise<{ line: string; stop: () => Promise<void> }> {
  const child: ChildProcess = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const ended = once(child, "close").catch(() => {});
  let errors = "";
  child.stderr?.on("data", (text) => (errors = (errors + text).slice(-4_000)));
  const lines = createInterface({ input: child.stdout! });
  const line = await new Promise<string>((resolve, reject) => {
    lines.once("line", resolve);
    child.once("error", (error) => reject(new Error(`cannot start ${binary} (set LEADGATE_BIN)`, { cause: error })));
    child.once("close", (code) => reject(new Error(`${binary} ${args.join(" ")} ended with code ${code}: ${errors}`)));
  });
  const stop = async () => {
    process.off("exit", kill);
    child.kill("SIGTERM");
    await ended;
  };
  return { line, stop };
}
