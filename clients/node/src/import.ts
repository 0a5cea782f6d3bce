import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Attempts, type CallOptions, type Caller, headers, messages, retryDelay, withRequestId } from "./call.js";
import { LeadgateError } from "./error.js";
import { type ImportedLead, type ImportLeadsRequest, ImportLeadsRequestSchema, LeadService } from "./gen/leadgate/v1/lead_pb.js";

/** One row of an import. `sequence` is optional: a row without one gets its position, from 1. */
export type ImportRow = MessageInitShape<typeof ImportLeadsRequestSchema>;

/** The result of one row. Either `lead` or `error` is set. */
export interface ImportResult {
  readonly sequence: bigint;
  /** The row as it was sent, with its request id. */
  readonly row: ImportLeadsRequest;
  readonly lead?: ImportedLead;
  readonly error?: LeadgateError;
}

/** Maximum number of rows without a result that was read. The same as the default of the gateway (`batching.import_window`). */
const WINDOW = 2_000;
/** How often a row is sent if its error says to send it again. */
const MAX_SENDS = 8;

interface PendingRow {
  readonly row: ImportLeadsRequest;
  sends: number;
}

/**
 * Sends rows and returns their results in the order in which they arrive. Rows are read from the source only as fast as results
 * are read. After a lost connection, rows without a result are sent again with their request ids.
 */
export async function* importLeads(
  caller: Caller,
  rows: Iterable<ImportRow> | AsyncIterable<ImportRow>,
  options: CallOptions = {},
): AsyncGenerator<ImportResult, void, undefined> {
  const attempts = new Attempts(options.timeoutMs ?? caller.timeouts.stream, options, caller.closed, caller.timeouts.reconnect);
  const source = Symbol.asyncIterator in rows ? rows[Symbol.asyncIterator]() : rows[Symbol.iterator]();
  // By the number of the row, which is its sequence on the wire.
  const pending = new Map<bigint, PendingRow>();
  let count = 0n;
  let pull: Promise<IteratorResult<ImportRow>> | undefined;
  let sourceState = "open" as "open" | "ended" | { failure: unknown };
  let stream = 0;
  let retries = 0;
  let retryAt = 0;
  let wake = () => {};

  // Takes the next row of the source. Undefined: there is none, or it belongs to a later stream.
  async function take(mine: number): Promise<ImportLeadsRequest | undefined> {
    try {
      pull ??= Promise.resolve(source.next());
      const next = await pull;
      if (mine !== stream) {
        return undefined;
      }
      pull = undefined;
      if (next.done) {
        sourceState = "ended";
        return undefined;
      }
      count += 1n;
      const row = prepare(next.value, count);
      pending.set(count, { row, sends: 1 });
      return { ...row, sequence: count };
    } catch (failure) {
      sourceState = { failure };
      throw failure;
    }
  }

  // Each stream first repeats the rows without a result. It ends early if too many of its rows wait to be sent again.
  async function* send(mine: number) {
    for (const [id, { row }] of [...pending]) {
      yield { ...row, sequence: id };
    }
    while (mine === stream && sourceState === "open" && retries < WINDOW / 2) {
      if (pending.size >= WINDOW) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      const row = await take(mine);
      if (row) {
        yield row;
      }
    }
  }

  try {
    while (sourceState === "open" || pending.size > 0) {
      const { signal, cancel } = attempts.cancellation();
      try {
        await attempts.sleep(Math.max(0, retryAt - performance.now()));
        stream += 1;
        retries = 0;
        const response = await caller.transport.stream(LeadService.method.importLeads, signal, attempts.remaining(), headers(options), send(stream));
        options.onHeader?.(response.header);
        for await (const { sequence: id, result } of messages(response.message, cancel)) {
          attempts.progress();
          const entry = pending.get(id);
          if (entry === undefined) {
            continue;
          }
          const error = result.case === "error" ? LeadgateError.fromStatus(result.value) : undefined;
          const delay = error && entry.sends < MAX_SENDS ? retryDelay(error, 1, "same-request-id") : undefined;
          if (delay !== undefined && attempts.allows(delay)) {
            entry.sends += 1;
            retries += 1;
            retryAt = Math.max(retryAt, performance.now() + delay);
            wake();
            continue;
          }
          pending.delete(id);
          wake();
          const { row } = entry;
          if (error) {
            error.requestId = row.operation.value?.requestId;
            yield { sequence: row.sequence, row, error };
          } else {
            yield { sequence: row.sequence, row, ...(result.case === "response" && { lead: result.value }) };
          }
        }
        if (pending.size > retries || (sourceState === "open" && retries < WINDOW / 2)) {
          throw new LeadgateError("the stream ended before all rows had a result", Code.Unavailable);
        }
        if (sourceState === "ended" && pending.size === 0) {
          options.onTrailer?.(response.trailer);
        }
      } catch (cause) {
        if (typeof sourceState === "object") {
          throw sourceState.failure;
        }
        const error = attempts.error(cause);
        error.unfinishedRows = [...pending.values()].map(({ row }) => row);
        await attempts.wait(error, "read");
      } finally {
        stream += 1;
        wake();
        cancel();
      }
    }
  } finally {
    Promise.resolve(source.return?.()).catch(() => {}); // Not awaited: the source may be waiting for its next row.
  }
}

/** Returns a copy of a row with a sequence and a request id. */
function prepare(init: ImportRow, position: bigint): ImportLeadsRequest {
  const row = create(ImportLeadsRequestSchema, init);
  const operation = row.operation.value ? { case: row.operation.case, value: withRequestId(row.operation.value).message } : row.operation;
  return { ...row, sequence: row.sequence || position, operation: operation as ImportLeadsRequest["operation"] };
}
