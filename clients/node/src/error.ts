import { fromBinary } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import { ErrorReason } from "./gen/leadgate/v1/error_reason_pb.js";
import type { ImportLeadsRequest } from "./gen/leadgate/v1/lead_pb.js";

/** The domain of leadgate's errors in google.rpc.ErrorInfo. */
const DOMAIN = "leadgate";

/** Errors of TLS that a retry cannot resolve: codes of Node.js, and what to do. */
const TLS_ERRORS: readonly (readonly [RegExp, string])[] = [
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, "the gateway's certificate is not valid for the host of `address`"],
  [/^ERR_SSL_WRONG_VERSION_NUMBER$/, "the port does not use TLS: set `insecure: true` or use another port"],
  [/^(?!ERR_).*(CERT|LEAF_SIGNATURE)/, "the gateway's certificate is expired, or its authority is not in `ca` or Node.js"],
];

/** An invalid field of a request. */
export interface FieldViolation {
  /** The path of the field in the request, such as `lead.email_address`. */
  readonly field: string;
  readonly description: string;
}

/** The resource that an error names. For LEAD_DUPLICATE: the other lead. */
export interface ErrorResource {
  readonly type: string;
  /** The id of the resource, such as the id of the other lead. Empty if it is not known. */
  readonly name: string;
  /** For LEAD_DUPLICATE: the path of the field, such as `lead.email_address`. */
  readonly description: string;
}

/** A detail of an error as it was received. */
export interface ErrorDetail {
  /** The name of the message type, such as `google.rpc.ErrorInfo`. */
  readonly type: string;
  /** The message in the binary form of protobuf. */
  readonly value: Uint8Array;
}

/** Every error of a call. An error of leadgate has a reason; a lost connection has none. */
export class LeadgateError extends Error {
  override readonly name = "LeadgateError";
  /** The gRPC status code. */
  readonly code: Code;
  /** The reason. ERROR_REASON_UNSPECIFIED if the error is not from leadgate, or if the reason is newer than this package. */
  readonly reason: ErrorReason;
  /** The reason as text, also if this package does not know it. Empty if the error is not from leadgate. */
  readonly reasonText: string;
  /** The message of the error without code and reason. */
  readonly rawMessage: string;
  /** The domain of ErrorInfo: `leadgate`. Empty if there is no ErrorInfo. */
  readonly domain: string;
  /** The metadata of ErrorInfo, such as `attempts`, `exception_type` and `retry_same_request_id`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The invalid fields of the request. */
  readonly violations: readonly FieldViolation[];
  /** The time in milliseconds after which the request may be sent again. Absent if the error does not say. */
  readonly retryAfter: number | undefined;
  /** The resource that the error names: another lead, a share, ... */
  readonly resource: ErrorResource | undefined;
  /** The x-request-id of the RPC: its name in the log of the gateway. */
  readonly rpcId: string | undefined;
  /** All details as they were received. */
  declare readonly details: readonly ErrorDetail[];
  /** The request_id of the mutation: the caller's, or the one that the client generated. Send it again to continue. */
  requestId: string | undefined;
  /** For importLeads: the rows without a result, with their request ids. */
  declare unfinishedRows: readonly ImportLeadsRequest[];

  constructor(message: string, code: Code, details: readonly ErrorDetail[] = [], options: { cause?: unknown; rpcId?: string } = {}) {
    const info = find(details, ErrorInfoSchema);
    const reasonText = info?.reason ?? "";
    super(`${codeName(code)}${reasonText && ` (${reasonText})`}: ${message}`, { cause: options.cause });
    const known = info?.domain === DOMAIN ? ErrorReason[reasonText as keyof typeof ErrorReason] : undefined;
    const retry = find(details, RetryInfoSchema)?.retryDelay;
    const resource = find(details, ResourceInfoSchema);
    this.code = code;
    this.rawMessage = message;
    this.reason = known ?? ErrorReason.ERROR_REASON_UNSPECIFIED;
    this.reasonText = reasonText;
    this.domain = info?.domain ?? "";
    this.metadata = info?.metadata ?? {};
    this.violations = (find(details, BadRequestSchema)?.fieldViolations ?? []).map(({ field, description }) => ({ field, description }));
    this.retryAfter = retry && Number(retry.seconds) * 1_000 + retry.nanos / 1e6;
    this.resource = resource && { type: resource.resourceType, name: resource.resourceName, description: resource.description };
    this.rpcId = find(details, RequestInfoSchema)?.requestId ?? options.rpcId;
    // Not enumerable: logs should contain neither bytes nor personal data, and JSON has no bigint.
    Object.defineProperties(this, { details: { value: details }, unfinishedRows: { value: [], writable: true } });
  }

  /** Converts an error of the transport. `aborted`: whether the caller has cancelled the call. */
  static from(error: unknown, aborted = false): LeadgateError {
    if (error instanceof LeadgateError) {
      return error;
    }
    const { rawMessage, code, details, metadata } = ConnectError.from(error, Code.Internal);
    const received = details.flatMap((detail) => ("type" in detail ? [{ type: detail.type, value: detail.value }] : []));
    const cause = causeCode(error);
    const lost = !aborted && !metadata.has("grpc-status") && isConnectionLost(error, code, cause);
    const rpcId = metadata.get("x-request-id");
    const advice = TLS_ERRORS.find(([pattern]) => pattern.test(cause))?.[1];
    return new LeadgateError(advice ? `${advice} (${rawMessage.trim()})` : rawMessage, aborted ? Code.Canceled : lost ? Code.Unavailable : code, received, {
      cause: error,
      ...(rpcId === null ? {} : { rpcId }),
    });
  }

  /** Converts a google.rpc.Status, such as the error of a result of a batch or the failure of a share. */
  static fromStatus(status: Status): LeadgateError {
    const details = status.details.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value }));
    return new LeadgateError(status.message, status.code, details);
  }
}

/** Decodes the first detail of a type. A detail that cannot be decoded counts as absent. */
function find<T extends Message>(details: readonly ErrorDetail[], schema: GenMessage<T>): T | undefined {
  const detail = details.find(({ type }) => type === schema.typeName);
  try {
    return detail && fromBinary(schema, detail.value);
  } catch {
    return undefined;
  }
}

/** The name of a code in gRPC: ALREADY_EXISTS. */
function codeName(code: Code): string {
  return (Code[code] ?? `CODE_${code}`).replace(/(?<=[a-z])[A-Z]/g, "_$&").replace("Canceled", "Cancelled").toUpperCase();
}

/** The code of Node.js in an error or its causes, such as ECONNREFUSED or CERT_HAS_EXPIRED. */
function causeCode(error: unknown): string {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") {
      return cause.code;
    }
  }
  return "";
}

/** Whether an error without a gRPC status means that there was no connection, or that it ended during the call. */
function isConnectionLost(error: unknown, code: Code, cause: string): boolean {
  if (code === Code.DeadlineExceeded) {
    return false;
  }
  if (cause !== "") {
    return /^(ERR_HTTP2_|ERR_STREAM_|ECONN|ENOTFOUND$|EAI_AGAIN$|EPIPE$|ETIMEDOUT$|EHOST|ENET)/.test(cause); // Not, for example, an invalid certificate.
  }
  // A stream that was reset or that ended without a status.
  return [Code.Unavailable, Code.Aborted, Code.Canceled].includes(code) || (error instanceof ConnectError && error.rawMessage === "protocol error: missing status");
}
