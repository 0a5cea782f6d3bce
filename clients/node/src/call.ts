import { randomFillSync } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { create, equals, type DescMessage, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import type { DescMethod, DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { LeadgateError } from "./error.js";
import { ErrorReason } from "./gen/leadgate/v1/error_reason_pb.js";

/** How important a call is if more calls wait than the quota allows. */
export type Criticality = "critical-plus" | "critical" | "sheddable-plus" | "sheddable";

/** The default deadlines in milliseconds. A watch has none. */
export interface Timeouts {
  /** Reads and writes of one message. Default: 30 s. */
  readonly unary?: number;
  /** RPCs that wait for LeadSquared to grant or revoke access. Default: 120 s. */
  readonly share?: number;
  /** Batch RPCs. Default: 120 s. */
  readonly batch?: number;
  /** Streams: importLeads, exportLeads, revokeShares. Default: 1 hour. */
  readonly stream?: number;
  /** Maximum time without a message for which a stream or a watch reconnects. Default: 10 minutes. */
  readonly reconnect?: number;
}

/** The options of one call. */
export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** The deadline in milliseconds from now, over all attempts. More than 27 hours, such as Infinity, is none. */
  readonly timeoutMs?: number;
  readonly tenant?: string;
  /** The name of the caller, for gateways with `auth.mode = "none"`. */
  readonly caller?: string;
  readonly criticality?: Criticality;
  /** Further request metadata, such as `traceparent`. */
  readonly headers?: Headers | Record<string, string>;
  /** Receives the response headers. */
  readonly onHeader?: (headers: Headers) => void;
  /** Receives the trailers of a successful call: `x-request-id`, and the counts of an import. */
  readonly onTrailer?: (trailers: Headers) => void;
}

const DEFAULTS: Required<Timeouts> = { unary: 30_000, share: 120_000, batch: 120_000, stream: 3_600_000, reconnect: 600_000 };
/** The longest deadline that gRPC can represent in milliseconds. */
const MAX_TIMEOUT_MS = 99_999_999;
/** The longest timer of Node.js. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** An attempt that would have less time than this is not made. */
const MIN_ATTEMPT_MS = 100;
/** RPCs that change nothing. All others are mutations. */
const READ = /^(Get|BatchGet|List|Search|QuickSearch|Describe|Export|Watch)/;
const RETRYABLE: readonly Code[] = [Code.ResourceExhausted, Code.Unavailable, Code.Aborted];
/** Reasons that say that nothing was executed. */
const NOT_EXECUTED: readonly ErrorReason[] = [
  ErrorReason.DEADLINE_INFEASIBLE,
  ErrorReason.CALLER_LIMIT,
  ErrorReason.QUEUE_FULL,
  ErrorReason.DAILY_BUDGET_EXHAUSTED,
  ErrorReason.UPSTREAM_UNAVAILABLE,
  ErrorReason.SHUTTING_DOWN,
  ErrorReason.TENANT_PAUSED,
  ErrorReason.AUDIT_UNAVAILABLE,
  ErrorReason.STORE_UNAVAILABLE,
];

/** What a repeated request does: nothing (a read), nothing because of its request id, or unknown. */
export type Repetition = "read" | "same-request-id" | "unsafe";

/** The time and the cancellation of a call over all of its attempts. */
export class Attempts {
  private readonly deadline: number;
  /** A signal of this call only: Node.js warns about a signal with many listeners. */
  readonly signal: AbortSignal | undefined;
  private failures = 0;
  private hasProgress = false;
  private progressAt = performance.now();

  /** `closed`: the client is closed. `reconnect`: the maximum time without progress. */
  constructor(
    timeoutMs: number,
    options: CallOptions,
    private readonly closed: AbortSignal,
    private readonly reconnect = Infinity,
  ) {
    if (!(timeoutMs > 0)) {
      throw new LeadgateError(`nothing was sent: timeoutMs is ${timeoutMs}`, Code.DeadlineExceeded);
    }
    this.deadline = timeoutMs > MAX_TIMEOUT_MS ? Infinity : performance.now() + timeoutMs;
    this.signal = options.signal && AbortSignal.any([options.signal]);
  }

  /** The time until the deadline in milliseconds. Undefined: no deadline. */
  remaining(): number | undefined {
    return this.deadline === Infinity ? undefined : Math.max(1, Math.floor(this.deadline - performance.now()));
  }

  /** Whether an attempt can start after a delay. */
  allows(delay: number): boolean {
    return performance.now() + delay + MIN_ATTEMPT_MS < this.deadline;
  }

  /** A message was received: the next failure is the first one. */
  progress(): void {
    this.failures = 0;
    this.hasProgress = true;
    this.progressAt = performance.now();
  }

  /** Converts an error of an attempt. */
  error(error: unknown): LeadgateError {
    return LeadgateError.from(error, this.closed.aborted || this.signal?.aborted);
  }

  /** The delay before the next attempt. Undefined if there is none. */
  delay(error: LeadgateError, repetition: Repetition): number | undefined {
    this.failures += 1;
    // The token of a stream has expired: the next attempt sends the current one.
    const isExpired = this.hasProgress && error.code === Code.Unauthenticated;
    this.hasProgress = false;
    const delay = isExpired ? 0 : retryDelay(error, this.failures, repetition);
    const until = this.progressAt + this.reconnect;
    return delay === undefined || !this.allows(delay) || performance.now() + delay > until ? undefined : delay;
  }

  /** Waits before the next attempt, or throws the error if there is no next attempt. */
  async wait(error: LeadgateError, repetition: Repetition): Promise<void> {
    const delay = this.delay(error, repetition);
    if (delay === undefined) {
      throw error;
    }
    try {
      await this.sleep(delay);
    } catch (cancelled) {
      const { requestId, unfinishedRows } = error;
      throw Object.assign(this.error(cancelled), { requestId, unfinishedRows });
    }
  }

  async sleep(delay: number): Promise<void> {
    try {
      await sleep(Math.min(delay, MAX_TIMER_MS), undefined, { signal: this.signal ? AbortSignal.any([this.signal, this.closed]) : this.closed });
    } catch (cancelled) {
      throw this.error(cancelled);
    }
  }

  /** Cancels one attempt, also when the caller cancels the call. */
  cancellation(): { signal: AbortSignal; cancel: () => void } {
    const controller = new AbortController();
    const signal = this.signal ? AbortSignal.any([this.signal, controller.signal]) : controller.signal;
    return { signal, cancel: () => controller.abort() };
  }
}

/** When to send a request again after an error: as the error says, or after a growing delay if the connection was lost. */
export function retryDelay(error: LeadgateError, failures: number, repetition: Repetition): number | undefined {
  const { domain, retryAfter, metadata } = error;
  if (domain === "" && retryAfter === undefined) {
    return error.code === Code.Unavailable && repetition !== "unsafe" ? backoff(failures) : undefined;
  }
  if (domain !== "leadgate" || retryAfter === undefined || !RETRYABLE.includes(error.code)) {
    return undefined;
  }
  const sameRequest = metadata["retry_same_request_id"] ?? String(NOT_EXECUTED.includes(error.reason));
  if (repetition !== "read" && sameRequest !== "true") {
    return undefined;
  }
  // "At once" applies to the first failure: further ones must not become a busy loop.
  return retryAfter > 0 || failures === 1 ? retryAfter + Math.random() * Math.min(retryAfter / 10, 1_000) : backoff(failures);
}

function backoff(failures: number): number {
  return Math.min(100 * 2 ** (failures - 1), 5_000) * (0.8 + 0.4 * Math.random());
}

/** Calls RPCs with deadlines, request ids and retries. */
export class Caller {
  readonly timeouts: Required<Timeouts>;

  constructor(
    readonly transport: Transport,
    readonly closed: AbortSignal,
    timeouts: Timeouts = {},
  ) {
    // Without exactOptionalPropertyTypes, TypeScript allows undefined.
    this.timeouts = { ...DEFAULTS, ...Object.fromEntries(Object.entries(timeouts).filter(([, value]) => value !== undefined)) };
  }

  async unary<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, init: MessageInitShape<I>, options: CallOptions = {}) {
    const { message, requestId } = withRequestId(create<DescMessage>(method.input, init));
    const attempts = new Attempts(options.timeoutMs ?? this.timeout(method), options, this.closed);
    const repetition = READ.test(method.name) ? "read" : requestId !== undefined ? "same-request-id" : "unsafe";
    for (;;) {
      try {
        const response = await this.transport.unary(method, attempts.signal, attempts.remaining(), headers(options), message as MessageInitShape<I>);
        options.onHeader?.(response.header);
        options.onTrailer?.(response.trailer);
        return response.message;
      } catch (cause) {
        const error = attempts.error(cause);
        error.requestId = requestId;
        await attempts.wait(error, repetition);
      }
    }
  }

  /** An export continues after the last resume token, a watch starts again with the current state. */
  async *serverStream<I extends DescMessage, O extends DescMessage>(method: DescMethodServerStreaming<I, O>, init: MessageInitShape<I>, options: CallOptions = {}) {
    let message: Message & { resumeToken?: string } = create<DescMessage>(method.input, init);
    const attempts = new Attempts(options.timeoutMs ?? this.timeout(method), options, this.closed, this.timeouts.reconnect);
    const isRead = READ.test(method.name);
    let last: Message | undefined;
    for (;;) {
      const { signal, cancel } = attempts.cancellation();
      try {
        const response = await this.transport.stream(method, signal, attempts.remaining(), headers(options), one(message as MessageInitShape<I>));
        options.onHeader?.(response.header);
        let isFirst = true;
        for await (const received of messages(response.message, cancel)) {
          const item: Message & { resumeToken?: string } = received;
          attempts.progress();
          if (item.resumeToken) {
            message = { ...message, resumeToken: item.resumeToken };
          }
          const isKnown = isFirst && last !== undefined && item.resumeToken === undefined && equals<DescMessage>(method.output, item, last);
          isFirst = false;
          last = item;
          if (!isKnown) {
            yield received;
          }
        }
        options.onTrailer?.(response.trailer);
        return;
      } catch (cause) {
        const error = attempts.error(cause);
        if (!isRead && last !== undefined) {
          throw error;
        }
        await attempts.wait(error, isRead ? "read" : "unsafe");
      } finally {
        cancel();
      }
    }
  }

  private timeout(method: DescMethod): number {
    if (method.methodKind !== "unary") {
      return method.name.startsWith("Watch") ? Infinity : this.timeouts.stream;
    }
    if (method.name.startsWith("Batch")) {
      return this.timeouts.batch;
    }
    return method.input.field["waitFor"] ? this.timeouts.share : this.timeouts.unary;
  }
}

/** Returns a copy of a mutation with a request id if it has none. Messages without such a field stay as they are. */
export function withRequestId<T extends Message>(message: T & { requestId?: string }): { message: T; requestId: string | undefined } {
  const requestId = message.requestId === "" ? uuidV7() : message.requestId;
  return { message: requestId === message.requestId ? message : { ...message, requestId }, requestId };
}

/** A UUID version 7: it begins with the time in milliseconds. */
export function uuidV7(): string {
  const bytes = randomFillSync(Buffer.alloc(16));
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The request metadata of a call. */
export function headers(options: Pick<CallOptions, "tenant" | "caller" | "criticality" | "headers">): Headers {
  const headers = new Headers(options.headers);
  for (const name of ["tenant", "caller", "criticality"] as const) {
    const value = options[name];
    if (value !== undefined) {
      setHeader(headers, `x-leadgate-${name}`, value);
    }
  }
  return headers;
}

/** Sets a header. The error about an invalid value does not show it, as that of Node.js does: it may be a secret. */
export function setHeader(headers: Headers, name: string, value: string): void {
  if (!/^[\x20-\x7e]*$/.test(value)) {
    throw new ConnectError(`the value of ${name} must be printable ASCII text in one line`, Code.InvalidArgument);
  }
  headers.set(name, value);
}

/** Reads the messages of a stream, and cancels the stream at the end. */
export async function* messages<T>(stream: AsyncIterable<T>, cancel: () => void): AsyncGenerator<T, void, undefined> {
  const iterator = stream[Symbol.asyncIterator]();
  try {
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
      yield next.value;
    }
  } finally {
    cancel();
    iterator.next().catch(() => {}); // The transport stops its timer of the deadline only when it is read.
  }
}

async function* one<T>(value: T) {
  yield value;
}
