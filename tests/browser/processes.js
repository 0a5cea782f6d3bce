// Starts simulators, gateways and a browser as processes, and calls RPCs without generated code.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { resolve } from "node:path";

import puppeteer from "puppeteer-core";

const BINARY = process.env.LEADGATE_BIN ?? resolve(import.meta.dirname, "../../target/debug/leadgate");
const CHROMIUM = process.env.CHROMIUM ?? ["chromium", "chromium-browser", "google-chrome"].map((name) => `/usr/bin/${name}`).find(existsSync);
/** The keys of the simulator. */
export const ACCESS_KEY = "u$rSimulatorAccessKey";
export const SECRET_KEY = "simulator-secret-key";
/** The timeout of every wait, in milliseconds. It is reached only if a test fails. */
export const TIMEOUT = 20_000;

/** Returns an address on a free port. */
async function freeAddress() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return `127.0.0.1:${port}`;
}

/** A running command of the binary. */
class Process {
  constructor(args, settings = {}) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("LEADGATE__"));
    const env = { ...Object.fromEntries(inherited), ...settings };
    this.output = "";
    this.child = spawn(BINARY, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    this.ended = new Promise((ended) => this.child.once("close", ended));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        this.output += text;
        this.child.emit("output");
      });
    }
  }

  /** Waits for a match in the output. */
  find(pattern) {
    return new Promise((found, failed) => {
      const fail = (why) => failed(new Error(`${why}:\n${this.output}`));
      const timer = setTimeout(() => fail(`no output like ${pattern}`), TIMEOUT);
      const look = () => {
        const match = this.output.match(pattern);
        if (match) {
          clearTimeout(timer);
          this.child.off("output", look);
          found(match);
        }
      };
      this.child.on("output", look);
      this.child.once("error", (error) => fail(error.message));
      this.child.once("close", () => {
        clearTimeout(timer);
        fail("the process has ended");
      });
      look();
    });
  }

  /** Ends the process at once. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** A simulated LeadSquared. */
export class Simulator extends Process {
  static async start(...options) {
    const simulator = new Simulator(["simulate", "--listen", "127.0.0.1:0", ...options]);
    simulator.url = (await simulator.find(/simulated LeadSquared is at (http:\/\/\S+)/))[1];
    return simulator;
  }

  /** Sends a request like another integration. */
  async callAsOther() {
    const keys = new URLSearchParams({ accessKey: ACCESS_KEY, secretKey: SECRET_KEY, id: crypto.randomUUID() });
    const response = await fetch(`${this.url}/v2/LeadManagement.svc/Leads.GetById?${keys}`);
    await response.arrayBuffer();
  }
}

/** A gateway that keeps its addresses when it is started again. */
export class Gateway {
  /** `tenants`: the simulator of each tenant by name. `options`: further ones of `leadgate serve`. */
  static async start(tenants, settings = {}, ...options) {
    const gateway = new Gateway();
    gateway.options = options;
    gateway.address = await freeAddress();
    gateway.admin = await freeAddress();
    gateway.url = `http://${gateway.admin}`;
    gateway.settings = {
      LEADGATE__SERVER__LISTEN: gateway.address,
      LEADGATE__ADMIN__LISTEN: gateway.admin,
      LEADGATE__STORE__URL: "sqlite::memory:",
      ...settings,
    };
    for (const [name, simulator] of Object.entries(tenants)) {
      const prefix = `LEADGATE__TENANTS__${name.toUpperCase()}__`;
      gateway.settings[`${prefix}BASE_URL`] = simulator.url;
      gateway.settings[`${prefix}ACCESS_KEY`] = ACCESS_KEY;
      gateway.settings[`${prefix}SECRET_KEY`] = SECRET_KEY;
    }
    await gateway.run();
    return gateway;
  }

  /** Starts the process. */
  async run() {
    this.process = new Process(["serve", ...this.options], this.settings);
    await this.process.find(/"message":"serving"/);
    this.session = http2.connect(`http://${this.address}`);
    this.session.on("error", () => {});
  }

  async kill() {
    this.session.destroy();
    await this.process.kill();
  }

  /** Calls an RPC of LeadService. Returns the status, the error message and the message, without the frame. */
  call(method, message, { tenant = "acme", caller, timeout = 20, ...headers } = {}) {
    return new Promise((done, failed) => {
      const stream = this.session.request({
        ":method": "POST",
        ":path": `/leadgate.v1.LeadService/${method}`,
        "content-type": "application/grpc",
        te: "trailers",
        "grpc-timeout": `${timeout * 1000}m`,
        "x-leadgate-tenant": tenant,
        ...(caller && { "x-leadgate-caller": caller }),
        ...headers,
      });
      const frame = Buffer.alloc(5);
      frame.writeUInt32BE(message.length, 1);
      stream.end(Buffer.concat([frame, message]));
      const chunks = [];
      let status;
      const take = (given) => (status = given["grpc-status"] ?? status);
      stream.on("response", take).on("trailers", take);
      stream.on("data", (chunk) => chunks.push(chunk));
      stream.on("error", failed);
      stream.on("end", () => done({ status: Number(status), message: Buffer.concat(chunks).subarray(5) }));
    });
  }

  /** Creates a lead. Returns the status, and the id of the lead. */
  async create(email, options) {
    const lead = Buffer.concat([field(1, "Asha"), field(3, email)]);
    const { status, message } = await this.call("CreateLead", field(1, lead), options);
    // A response has one field: the id.
    return { status, id: message.subarray(2).toString() };
  }

  get(id, options) {
    return this.call("GetLead", field(1, id), options);
  }

  update(id, name, options) {
    return this.call("UpdateLead", Buffer.concat([field(1, id), field(2, field(2, name))]), options);
  }
}

/** A length-delimited field of a protobuf message of less than 128 bytes. */
function field(number, value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

export function launchBrowser() {
  return puppeteer.launch({
    executablePath: CHROMIUM,
    // Without it, Chromium does not run as root, as in most containers.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
}

/** Waits until the page shows data of this second. */
export function untilLive(page) {
  return page.waitForFunction(() => document.getElementById("age").textContent === "live", { timeout: TIMEOUT });
}
