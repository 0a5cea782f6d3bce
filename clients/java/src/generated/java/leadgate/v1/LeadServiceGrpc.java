package leadgate.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Leads of one LeadSquared account.
 * # Request metadata
 * * `authorization`: "Bearer " and an API key or a token, unless a client certificate identifies the caller. Required with
 *   the setting `auth.mode` = "callers".
 * * `x-leadgate-tenant`: the account. Required if the caller may use more than one account.
 * * `grpc-timeout`: the deadline. It bounds every wait, in the quota queue and for LeadSquared.
 * * `x-leadgate-caller` and `x-leadgate-criticality`: see QuotaService.
 * # Errors of all rpcs
 * Every error has google.rpc.ErrorInfo with the domain "leadgate". The reason of ErrorInfo is in parentheses here. Any rpc
 * may fail with:
 * * UNAUTHENTICATED (CALLER_UNKNOWN): there is no valid credential of a known caller. The error does not say more.
 * * PERMISSION_DENIED (CALLER_NOT_ALLOWED): the settings of the caller do not allow the request. `rule` in the metadata of
 *   ErrorInfo is "method", "tenant" (also if the tenant does not exist) or "field". With "field", BadRequest has the fields.
 * * RESOURCE_EXHAUSTED (DEADLINE_INFEASIBLE, CALLER_LIMIT, QUEUE_FULL, DAILY_BUDGET_EXHAUSTED): rate limited. Nothing was
 *   executed. Retry after the time in RetryInfo.
 * * UNAVAILABLE (UPSTREAM_UNAVAILABLE, SHUTTING_DOWN, OWNER_MOVED, TENANT_PAUSED): retry after the time in RetryInfo.
 * * FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED): an operator must check the keys of the account.
 * * DEADLINE_EXCEEDED (DEADLINE_EXCEEDED).
 * * UNKNOWN (UPSTREAM_EXCEPTION): LeadSquared rejected the request with an error that leadgate does not know.
 * * INTERNAL (UPSTREAM_UNREADABLE): the response of LeadSquared cannot be read.
 * Reads may also fail with RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE): a part that cannot be split is larger than the setting
 * `server.max_response_bytes`. Writes may also fail with ABORTED (OUTCOME_UNKNOWN). Writes with a request_id may also fail
 * with UNAVAILABLE (STORE_UNAVAILABLE).
 * # LEAD_DUPLICATE
 * Another lead has the same value of a unique attribute. The error has a ResourceInfo. `description` is the path of the
 * field, such as "lead.email_address"; ErrorInfo has it as `field`, too. `resource_name` is the id of the other lead, or
 * empty if it is not known. If LeadSquared does not return the id, leadgate may look the lead up by email address or phone
 * number. This takes one more upstream call, and is done only if a slot of the quota is free (setting
 * `writes.find_duplicates`).
 * # CALLER_NOT_ALLOWED
 * The settings of the caller do not allow some fields of the request: it may not write an attribute (`deny_fields`), or not
 * see it and not search by it (`hide_fields`). PERMISSION_DENIED with a BadRequest that lists all of these fields. Nothing was
 * sent. Responses leave out hidden attributes, and other errors do not name them.
 * # OUTCOME_UNKNOWN
 * The write was sent, but the response was lost, and a look-up could not find out whether it was executed. The key
 * `retry_same_request_id` in the metadata of ErrorInfo says what to do:
 * * "true": send the same request with the same request_id again, after the time in RetryInfo. leadgate then looks the
 *   write up and sends it only if it was not executed. Cause: the look-up failed, or did not finish before the deadline.
 * * "false": the same request_id cannot resolve the outcome, and there is no RetryInfo. Check the lead in LeadSquared. A
 *   request with another request_id, or without one, sends the write a second time. Causes: the write has no request_id;
 *   the write cannot be looked up (a create with a name only); or look-ups are not conclusive (CaptureLead of an existing
 *   lead, an update that runs automations, an activity that is not found). For shares, see ShareService.
 * Other errors of a write with a request_id have "true" if it is safe and useful to send the same request with the same
 * request_id again. If the error has RetryInfo, wait for that time. After DEADLINE_EXCEEDED, send the same request at once: a
 * write that was sent continues, and the same request_id returns its outcome. If the key is absent, the request has no
 * request_id, leadgate did not read it, or the same request would fail with the same error.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class LeadServiceGrpc {

  private LeadServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "leadgate.v1.LeadService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<leadgate.v1.CreateLeadRequest,
      leadgate.v1.CreateLeadResponse> getCreateLeadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateLead",
      requestType = leadgate.v1.CreateLeadRequest.class,
      responseType = leadgate.v1.CreateLeadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.CreateLeadRequest,
      leadgate.v1.CreateLeadResponse> getCreateLeadMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.CreateLeadRequest, leadgate.v1.CreateLeadResponse> getCreateLeadMethod;
    if ((getCreateLeadMethod = LeadServiceGrpc.getCreateLeadMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getCreateLeadMethod = LeadServiceGrpc.getCreateLeadMethod) == null) {
          LeadServiceGrpc.getCreateLeadMethod = getCreateLeadMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.CreateLeadRequest, leadgate.v1.CreateLeadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateLead"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.CreateLeadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.CreateLeadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("CreateLead"))
              .build();
        }
      }
    }
    return getCreateLeadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.UpdateLeadRequest,
      leadgate.v1.UpdateLeadResponse> getUpdateLeadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UpdateLead",
      requestType = leadgate.v1.UpdateLeadRequest.class,
      responseType = leadgate.v1.UpdateLeadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.UpdateLeadRequest,
      leadgate.v1.UpdateLeadResponse> getUpdateLeadMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.UpdateLeadRequest, leadgate.v1.UpdateLeadResponse> getUpdateLeadMethod;
    if ((getUpdateLeadMethod = LeadServiceGrpc.getUpdateLeadMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getUpdateLeadMethod = LeadServiceGrpc.getUpdateLeadMethod) == null) {
          LeadServiceGrpc.getUpdateLeadMethod = getUpdateLeadMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.UpdateLeadRequest, leadgate.v1.UpdateLeadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UpdateLead"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.UpdateLeadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.UpdateLeadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("UpdateLead"))
              .build();
        }
      }
    }
    return getUpdateLeadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.UpsertLeadRequest,
      leadgate.v1.UpsertLeadResponse> getUpsertLeadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UpsertLead",
      requestType = leadgate.v1.UpsertLeadRequest.class,
      responseType = leadgate.v1.UpsertLeadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.UpsertLeadRequest,
      leadgate.v1.UpsertLeadResponse> getUpsertLeadMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.UpsertLeadRequest, leadgate.v1.UpsertLeadResponse> getUpsertLeadMethod;
    if ((getUpsertLeadMethod = LeadServiceGrpc.getUpsertLeadMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getUpsertLeadMethod = LeadServiceGrpc.getUpsertLeadMethod) == null) {
          LeadServiceGrpc.getUpsertLeadMethod = getUpsertLeadMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.UpsertLeadRequest, leadgate.v1.UpsertLeadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UpsertLead"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.UpsertLeadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.UpsertLeadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("UpsertLead"))
              .build();
        }
      }
    }
    return getUpsertLeadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.CaptureLeadRequest,
      leadgate.v1.CaptureLeadResponse> getCaptureLeadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CaptureLead",
      requestType = leadgate.v1.CaptureLeadRequest.class,
      responseType = leadgate.v1.CaptureLeadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.CaptureLeadRequest,
      leadgate.v1.CaptureLeadResponse> getCaptureLeadMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.CaptureLeadRequest, leadgate.v1.CaptureLeadResponse> getCaptureLeadMethod;
    if ((getCaptureLeadMethod = LeadServiceGrpc.getCaptureLeadMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getCaptureLeadMethod = LeadServiceGrpc.getCaptureLeadMethod) == null) {
          LeadServiceGrpc.getCaptureLeadMethod = getCaptureLeadMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.CaptureLeadRequest, leadgate.v1.CaptureLeadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CaptureLead"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.CaptureLeadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.CaptureLeadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("CaptureLead"))
              .build();
        }
      }
    }
    return getCaptureLeadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.GetLeadRequest,
      leadgate.v1.GetLeadResponse> getGetLeadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetLead",
      requestType = leadgate.v1.GetLeadRequest.class,
      responseType = leadgate.v1.GetLeadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.GetLeadRequest,
      leadgate.v1.GetLeadResponse> getGetLeadMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.GetLeadRequest, leadgate.v1.GetLeadResponse> getGetLeadMethod;
    if ((getGetLeadMethod = LeadServiceGrpc.getGetLeadMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getGetLeadMethod = LeadServiceGrpc.getGetLeadMethod) == null) {
          LeadServiceGrpc.getGetLeadMethod = getGetLeadMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.GetLeadRequest, leadgate.v1.GetLeadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetLead"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetLeadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetLeadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("GetLead"))
              .build();
        }
      }
    }
    return getGetLeadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.BatchGetLeadsRequest,
      leadgate.v1.BatchGetLeadsResponse> getBatchGetLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "BatchGetLeads",
      requestType = leadgate.v1.BatchGetLeadsRequest.class,
      responseType = leadgate.v1.BatchGetLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.BatchGetLeadsRequest,
      leadgate.v1.BatchGetLeadsResponse> getBatchGetLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.BatchGetLeadsRequest, leadgate.v1.BatchGetLeadsResponse> getBatchGetLeadsMethod;
    if ((getBatchGetLeadsMethod = LeadServiceGrpc.getBatchGetLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getBatchGetLeadsMethod = LeadServiceGrpc.getBatchGetLeadsMethod) == null) {
          LeadServiceGrpc.getBatchGetLeadsMethod = getBatchGetLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.BatchGetLeadsRequest, leadgate.v1.BatchGetLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "BatchGetLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchGetLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchGetLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("BatchGetLeads"))
              .build();
        }
      }
    }
    return getBatchGetLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.BatchCreateLeadsRequest,
      leadgate.v1.BatchCreateLeadsResponse> getBatchCreateLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "BatchCreateLeads",
      requestType = leadgate.v1.BatchCreateLeadsRequest.class,
      responseType = leadgate.v1.BatchCreateLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.BatchCreateLeadsRequest,
      leadgate.v1.BatchCreateLeadsResponse> getBatchCreateLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.BatchCreateLeadsRequest, leadgate.v1.BatchCreateLeadsResponse> getBatchCreateLeadsMethod;
    if ((getBatchCreateLeadsMethod = LeadServiceGrpc.getBatchCreateLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getBatchCreateLeadsMethod = LeadServiceGrpc.getBatchCreateLeadsMethod) == null) {
          LeadServiceGrpc.getBatchCreateLeadsMethod = getBatchCreateLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.BatchCreateLeadsRequest, leadgate.v1.BatchCreateLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "BatchCreateLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchCreateLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchCreateLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("BatchCreateLeads"))
              .build();
        }
      }
    }
    return getBatchCreateLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.BatchUpdateLeadsRequest,
      leadgate.v1.BatchUpdateLeadsResponse> getBatchUpdateLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "BatchUpdateLeads",
      requestType = leadgate.v1.BatchUpdateLeadsRequest.class,
      responseType = leadgate.v1.BatchUpdateLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.BatchUpdateLeadsRequest,
      leadgate.v1.BatchUpdateLeadsResponse> getBatchUpdateLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.BatchUpdateLeadsRequest, leadgate.v1.BatchUpdateLeadsResponse> getBatchUpdateLeadsMethod;
    if ((getBatchUpdateLeadsMethod = LeadServiceGrpc.getBatchUpdateLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getBatchUpdateLeadsMethod = LeadServiceGrpc.getBatchUpdateLeadsMethod) == null) {
          LeadServiceGrpc.getBatchUpdateLeadsMethod = getBatchUpdateLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.BatchUpdateLeadsRequest, leadgate.v1.BatchUpdateLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "BatchUpdateLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchUpdateLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchUpdateLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("BatchUpdateLeads"))
              .build();
        }
      }
    }
    return getBatchUpdateLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.BatchUpsertLeadsRequest,
      leadgate.v1.BatchUpsertLeadsResponse> getBatchUpsertLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "BatchUpsertLeads",
      requestType = leadgate.v1.BatchUpsertLeadsRequest.class,
      responseType = leadgate.v1.BatchUpsertLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.BatchUpsertLeadsRequest,
      leadgate.v1.BatchUpsertLeadsResponse> getBatchUpsertLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.BatchUpsertLeadsRequest, leadgate.v1.BatchUpsertLeadsResponse> getBatchUpsertLeadsMethod;
    if ((getBatchUpsertLeadsMethod = LeadServiceGrpc.getBatchUpsertLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getBatchUpsertLeadsMethod = LeadServiceGrpc.getBatchUpsertLeadsMethod) == null) {
          LeadServiceGrpc.getBatchUpsertLeadsMethod = getBatchUpsertLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.BatchUpsertLeadsRequest, leadgate.v1.BatchUpsertLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "BatchUpsertLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchUpsertLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.BatchUpsertLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("BatchUpsertLeads"))
              .build();
        }
      }
    }
    return getBatchUpsertLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ImportLeadsRequest,
      leadgate.v1.ImportLeadsResponse> getImportLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ImportLeads",
      requestType = leadgate.v1.ImportLeadsRequest.class,
      responseType = leadgate.v1.ImportLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING)
  public static io.grpc.MethodDescriptor<leadgate.v1.ImportLeadsRequest,
      leadgate.v1.ImportLeadsResponse> getImportLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ImportLeadsRequest, leadgate.v1.ImportLeadsResponse> getImportLeadsMethod;
    if ((getImportLeadsMethod = LeadServiceGrpc.getImportLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getImportLeadsMethod = LeadServiceGrpc.getImportLeadsMethod) == null) {
          LeadServiceGrpc.getImportLeadsMethod = getImportLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ImportLeadsRequest, leadgate.v1.ImportLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ImportLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ImportLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ImportLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("ImportLeads"))
              .build();
        }
      }
    }
    return getImportLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.SearchLeadsRequest,
      leadgate.v1.SearchLeadsResponse> getSearchLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "SearchLeads",
      requestType = leadgate.v1.SearchLeadsRequest.class,
      responseType = leadgate.v1.SearchLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.SearchLeadsRequest,
      leadgate.v1.SearchLeadsResponse> getSearchLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.SearchLeadsRequest, leadgate.v1.SearchLeadsResponse> getSearchLeadsMethod;
    if ((getSearchLeadsMethod = LeadServiceGrpc.getSearchLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getSearchLeadsMethod = LeadServiceGrpc.getSearchLeadsMethod) == null) {
          LeadServiceGrpc.getSearchLeadsMethod = getSearchLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.SearchLeadsRequest, leadgate.v1.SearchLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "SearchLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.SearchLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.SearchLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("SearchLeads"))
              .build();
        }
      }
    }
    return getSearchLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.QuickSearchLeadsRequest,
      leadgate.v1.QuickSearchLeadsResponse> getQuickSearchLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "QuickSearchLeads",
      requestType = leadgate.v1.QuickSearchLeadsRequest.class,
      responseType = leadgate.v1.QuickSearchLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.QuickSearchLeadsRequest,
      leadgate.v1.QuickSearchLeadsResponse> getQuickSearchLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.QuickSearchLeadsRequest, leadgate.v1.QuickSearchLeadsResponse> getQuickSearchLeadsMethod;
    if ((getQuickSearchLeadsMethod = LeadServiceGrpc.getQuickSearchLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getQuickSearchLeadsMethod = LeadServiceGrpc.getQuickSearchLeadsMethod) == null) {
          LeadServiceGrpc.getQuickSearchLeadsMethod = getQuickSearchLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.QuickSearchLeadsRequest, leadgate.v1.QuickSearchLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "QuickSearchLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.QuickSearchLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.QuickSearchLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("QuickSearchLeads"))
              .build();
        }
      }
    }
    return getQuickSearchLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ListModifiedLeadsRequest,
      leadgate.v1.ListModifiedLeadsResponse> getListModifiedLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListModifiedLeads",
      requestType = leadgate.v1.ListModifiedLeadsRequest.class,
      responseType = leadgate.v1.ListModifiedLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ListModifiedLeadsRequest,
      leadgate.v1.ListModifiedLeadsResponse> getListModifiedLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ListModifiedLeadsRequest, leadgate.v1.ListModifiedLeadsResponse> getListModifiedLeadsMethod;
    if ((getListModifiedLeadsMethod = LeadServiceGrpc.getListModifiedLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getListModifiedLeadsMethod = LeadServiceGrpc.getListModifiedLeadsMethod) == null) {
          LeadServiceGrpc.getListModifiedLeadsMethod = getListModifiedLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ListModifiedLeadsRequest, leadgate.v1.ListModifiedLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListModifiedLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListModifiedLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListModifiedLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("ListModifiedLeads"))
              .build();
        }
      }
    }
    return getListModifiedLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ExportLeadsRequest,
      leadgate.v1.ExportLeadsResponse> getExportLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ExportLeads",
      requestType = leadgate.v1.ExportLeadsRequest.class,
      responseType = leadgate.v1.ExportLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<leadgate.v1.ExportLeadsRequest,
      leadgate.v1.ExportLeadsResponse> getExportLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ExportLeadsRequest, leadgate.v1.ExportLeadsResponse> getExportLeadsMethod;
    if ((getExportLeadsMethod = LeadServiceGrpc.getExportLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getExportLeadsMethod = LeadServiceGrpc.getExportLeadsMethod) == null) {
          LeadServiceGrpc.getExportLeadsMethod = getExportLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ExportLeadsRequest, leadgate.v1.ExportLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ExportLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ExportLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ExportLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("ExportLeads"))
              .build();
        }
      }
    }
    return getExportLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.DeleteLeadRequest,
      leadgate.v1.DeleteLeadResponse> getDeleteLeadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteLead",
      requestType = leadgate.v1.DeleteLeadRequest.class,
      responseType = leadgate.v1.DeleteLeadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.DeleteLeadRequest,
      leadgate.v1.DeleteLeadResponse> getDeleteLeadMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.DeleteLeadRequest, leadgate.v1.DeleteLeadResponse> getDeleteLeadMethod;
    if ((getDeleteLeadMethod = LeadServiceGrpc.getDeleteLeadMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getDeleteLeadMethod = LeadServiceGrpc.getDeleteLeadMethod) == null) {
          LeadServiceGrpc.getDeleteLeadMethod = getDeleteLeadMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.DeleteLeadRequest, leadgate.v1.DeleteLeadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteLead"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.DeleteLeadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.DeleteLeadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("DeleteLead"))
              .build();
        }
      }
    }
    return getDeleteLeadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.MergeLeadsRequest,
      leadgate.v1.MergeLeadsResponse> getMergeLeadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "MergeLeads",
      requestType = leadgate.v1.MergeLeadsRequest.class,
      responseType = leadgate.v1.MergeLeadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.MergeLeadsRequest,
      leadgate.v1.MergeLeadsResponse> getMergeLeadsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.MergeLeadsRequest, leadgate.v1.MergeLeadsResponse> getMergeLeadsMethod;
    if ((getMergeLeadsMethod = LeadServiceGrpc.getMergeLeadsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getMergeLeadsMethod = LeadServiceGrpc.getMergeLeadsMethod) == null) {
          LeadServiceGrpc.getMergeLeadsMethod = getMergeLeadsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.MergeLeadsRequest, leadgate.v1.MergeLeadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "MergeLeads"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.MergeLeadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.MergeLeadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("MergeLeads"))
              .build();
        }
      }
    }
    return getMergeLeadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.DescribeLeadFieldsRequest,
      leadgate.v1.DescribeLeadFieldsResponse> getDescribeLeadFieldsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DescribeLeadFields",
      requestType = leadgate.v1.DescribeLeadFieldsRequest.class,
      responseType = leadgate.v1.DescribeLeadFieldsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.DescribeLeadFieldsRequest,
      leadgate.v1.DescribeLeadFieldsResponse> getDescribeLeadFieldsMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.DescribeLeadFieldsRequest, leadgate.v1.DescribeLeadFieldsResponse> getDescribeLeadFieldsMethod;
    if ((getDescribeLeadFieldsMethod = LeadServiceGrpc.getDescribeLeadFieldsMethod) == null) {
      synchronized (LeadServiceGrpc.class) {
        if ((getDescribeLeadFieldsMethod = LeadServiceGrpc.getDescribeLeadFieldsMethod) == null) {
          LeadServiceGrpc.getDescribeLeadFieldsMethod = getDescribeLeadFieldsMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.DescribeLeadFieldsRequest, leadgate.v1.DescribeLeadFieldsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DescribeLeadFields"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.DescribeLeadFieldsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.DescribeLeadFieldsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new LeadServiceMethodDescriptorSupplier("DescribeLeadFields"))
              .build();
        }
      }
    }
    return getDescribeLeadFieldsMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static LeadServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<LeadServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<LeadServiceStub>() {
        @java.lang.Override
        public LeadServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new LeadServiceStub(channel, callOptions);
        }
      };
    return LeadServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static LeadServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<LeadServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<LeadServiceBlockingStub>() {
        @java.lang.Override
        public LeadServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new LeadServiceBlockingStub(channel, callOptions);
        }
      };
    return LeadServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static LeadServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<LeadServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<LeadServiceFutureStub>() {
        @java.lang.Override
        public LeadServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new LeadServiceFutureStub(channel, callOptions);
        }
      };
    return LeadServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Leads of one LeadSquared account.
   * # Request metadata
   * * `authorization`: "Bearer " and an API key or a token, unless a client certificate identifies the caller. Required with
   *   the setting `auth.mode` = "callers".
   * * `x-leadgate-tenant`: the account. Required if the caller may use more than one account.
   * * `grpc-timeout`: the deadline. It bounds every wait, in the quota queue and for LeadSquared.
   * * `x-leadgate-caller` and `x-leadgate-criticality`: see QuotaService.
   * # Errors of all rpcs
   * Every error has google.rpc.ErrorInfo with the domain "leadgate". The reason of ErrorInfo is in parentheses here. Any rpc
   * may fail with:
   * * UNAUTHENTICATED (CALLER_UNKNOWN): there is no valid credential of a known caller. The error does not say more.
   * * PERMISSION_DENIED (CALLER_NOT_ALLOWED): the settings of the caller do not allow the request. `rule` in the metadata of
   *   ErrorInfo is "method", "tenant" (also if the tenant does not exist) or "field". With "field", BadRequest has the fields.
   * * RESOURCE_EXHAUSTED (DEADLINE_INFEASIBLE, CALLER_LIMIT, QUEUE_FULL, DAILY_BUDGET_EXHAUSTED): rate limited. Nothing was
   *   executed. Retry after the time in RetryInfo.
   * * UNAVAILABLE (UPSTREAM_UNAVAILABLE, SHUTTING_DOWN, OWNER_MOVED, TENANT_PAUSED): retry after the time in RetryInfo.
   * * FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED): an operator must check the keys of the account.
   * * DEADLINE_EXCEEDED (DEADLINE_EXCEEDED).
   * * UNKNOWN (UPSTREAM_EXCEPTION): LeadSquared rejected the request with an error that leadgate does not know.
   * * INTERNAL (UPSTREAM_UNREADABLE): the response of LeadSquared cannot be read.
   * Reads may also fail with RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE): a part that cannot be split is larger than the setting
   * `server.max_response_bytes`. Writes may also fail with ABORTED (OUTCOME_UNKNOWN). Writes with a request_id may also fail
   * with UNAVAILABLE (STORE_UNAVAILABLE).
   * # LEAD_DUPLICATE
   * Another lead has the same value of a unique attribute. The error has a ResourceInfo. `description` is the path of the
   * field, such as "lead.email_address"; ErrorInfo has it as `field`, too. `resource_name` is the id of the other lead, or
   * empty if it is not known. If LeadSquared does not return the id, leadgate may look the lead up by email address or phone
   * number. This takes one more upstream call, and is done only if a slot of the quota is free (setting
   * `writes.find_duplicates`).
   * # CALLER_NOT_ALLOWED
   * The settings of the caller do not allow some fields of the request: it may not write an attribute (`deny_fields`), or not
   * see it and not search by it (`hide_fields`). PERMISSION_DENIED with a BadRequest that lists all of these fields. Nothing was
   * sent. Responses leave out hidden attributes, and other errors do not name them.
   * # OUTCOME_UNKNOWN
   * The write was sent, but the response was lost, and a look-up could not find out whether it was executed. The key
   * `retry_same_request_id` in the metadata of ErrorInfo says what to do:
   * * "true": send the same request with the same request_id again, after the time in RetryInfo. leadgate then looks the
   *   write up and sends it only if it was not executed. Cause: the look-up failed, or did not finish before the deadline.
   * * "false": the same request_id cannot resolve the outcome, and there is no RetryInfo. Check the lead in LeadSquared. A
   *   request with another request_id, or without one, sends the write a second time. Causes: the write has no request_id;
   *   the write cannot be looked up (a create with a name only); or look-ups are not conclusive (CaptureLead of an existing
   *   lead, an update that runs automations, an activity that is not found). For shares, see ShareService.
   * Other errors of a write with a request_id have "true" if it is safe and useful to send the same request with the same
   * request_id again. If the error has RetryInfo, wait for that time. After DEADLINE_EXCEEDED, send the same request at once: a
   * write that was sent continues, and the same request_id returns its outcome. If the key is absent, the request has no
   * request_id, leadgate did not read it, or the same request would fail with the same error.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Creates a lead. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    default void createLead(leadgate.v1.CreateLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.CreateLeadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateLeadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Updates the given attributes of a lead. Other attributes are not changed. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    default void updateLead(leadgate.v1.UpdateLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.UpdateLeadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUpdateLeadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Updates the lead that matches, or creates a lead. One upstream call; up to four if another lead has the phone number.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    default void upsertLead(leadgate.v1.UpsertLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.UpsertLeadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUpsertLeadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Captures a lead like a web form: updates the lead that matches or creates a lead, and posts LeadSquared's capture
     * activity.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    default void captureLead(leadgate.v1.CaptureLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.CaptureLeadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCaptureLeadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads one lead. One upstream call; for a phone number up to three, one for each form in which accounts store it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    default void getLead(leadgate.v1.GetLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetLeadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetLeadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads up to 10,000 leads by id. One upstream call, and a second one to verify ids that were not returned. A missing id
     * is not an error. Leads that do not fit into one response are in remaining_lead_ids.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    default void batchGetLeads(leadgate.v1.BatchGetLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchGetLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getBatchGetLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Creates leads in bulk calls of up to 50. Unlike CreateLead, bulk calls did not start automations when they were
     * observed. Each request has its own result. The rpc itself fails only if no request was attempted.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as CreateLead.
     * </pre>
     */
    default void batchCreateLeads(leadgate.v1.BatchCreateLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchCreateLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getBatchCreateLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Updates leads in bulk calls of up to 25, or in single calls if slots are free. Updates of the same lead are executed in
     * the order of the requests. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpdateLead.
     * </pre>
     */
    default void batchUpdateLeads(leadgate.v1.BatchUpdateLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchUpdateLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getBatchUpdateLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Updates or creates leads in bulk calls of up to 25. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpsertLead.
     * </pre>
     */
    default void batchUpsertLeads(leadgate.v1.BatchUpsertLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchUpsertLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getBatchUpsertLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Writes a stream of leads in bulk calls, and sends the result of each row when it is known. Results may arrive in any
     * order; use `sequence` to match them. The number of rows in progress is limited. At the limit, leadgate reads no more
     * rows until the caller reads results, so gRPC flow control slows the caller down. The trailers
     * x-leadgate-import-received, x-leadgate-import-succeeded and x-leadgate-import-failed have the counts. Only the deadline
     * of the caller ends the stream. Writes that were sent before the end are completed. A row with a request_id can be sent
     * again and is executed once.
     * Errors: UNAVAILABLE (SHUTTING_DOWN), RESOURCE_EXHAUSTED (QUEUE_FULL: too many streams, or the caller does not read).
     * Errors of a result: as the single rpc.
     * </pre>
     */
    default io.grpc.stub.StreamObserver<leadgate.v1.ImportLeadsRequest> importLeads(
        io.grpc.stub.StreamObserver<leadgate.v1.ImportLeadsResponse> responseObserver) {
      return io.grpc.stub.ServerCalls.asyncUnimplementedStreamingCall(getImportLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the leads that match a criterion, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). An attribute that the account does not have is an error, because LeadSquared
     * would return all leads.
     * </pre>
     */
    default void searchLeads(leadgate.v1.SearchLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.SearchLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getSearchLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Finds leads by a text in name, email address, phone, company, city or country. One upstream call. The maximum number of
     * leads that LeadSquared returns is not documented. There are no pages: if the leads do not fit into one response, the
     * rpc fails.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    default void quickSearchLeads(leadgate.v1.QuickSearchLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.QuickSearchLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getQuickSearchLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the leads that were last modified in a time range, in pages, ordered by id. One upstream call per page. A lead
     * that is modified between two pages may be returned twice. A lead that stays in the range is never left out, with one
     * exception: if the range ends in the future and other leads are deleted between two pages. Deleted leads are not
     * returned. If leads left the range, the next page may repeat the previous one.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    default void listModifiedLeads(leadgate.v1.ListModifiedLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListModifiedLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListModifiedLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams all leads that were last modified in a time range, each once. To resume an interrupted stream, send the last
     * resume_token that was received; leads that were received after that token are sent again. The stream has at least one
     * message, even without leads. Only the deadline of the caller ends the stream.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN), RESOURCE_EXHAUSTED (QUEUE_FULL: too many
     * streams, or the caller does not read).
     * </pre>
     */
    default void exportLeads(leadgate.v1.ExportLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ExportLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getExportLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Deletes a lead permanently. LeadSquared allows it only for accounts with this feature.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), FAILED_PRECONDITION
     * (UPSTREAM_FEATURE_DISABLED).
     * </pre>
     */
    default void deleteLead(leadgate.v1.DeleteLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.DeleteLeadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteLeadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Merges one lead into another lead. The merged lead is removed permanently.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    default void mergeLeads(leadgate.v1.MergeLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.MergeLeadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getMergeLeadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Describes the attributes of the account's leads. No upstream call while the metadata is cached.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD: unknown name in schema_names).
     * </pre>
     */
    default void describeLeadFields(leadgate.v1.DescribeLeadFieldsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.DescribeLeadFieldsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDescribeLeadFieldsMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service LeadService.
   * <pre>
   * Leads of one LeadSquared account.
   * # Request metadata
   * * `authorization`: "Bearer " and an API key or a token, unless a client certificate identifies the caller. Required with
   *   the setting `auth.mode` = "callers".
   * * `x-leadgate-tenant`: the account. Required if the caller may use more than one account.
   * * `grpc-timeout`: the deadline. It bounds every wait, in the quota queue and for LeadSquared.
   * * `x-leadgate-caller` and `x-leadgate-criticality`: see QuotaService.
   * # Errors of all rpcs
   * Every error has google.rpc.ErrorInfo with the domain "leadgate". The reason of ErrorInfo is in parentheses here. Any rpc
   * may fail with:
   * * UNAUTHENTICATED (CALLER_UNKNOWN): there is no valid credential of a known caller. The error does not say more.
   * * PERMISSION_DENIED (CALLER_NOT_ALLOWED): the settings of the caller do not allow the request. `rule` in the metadata of
   *   ErrorInfo is "method", "tenant" (also if the tenant does not exist) or "field". With "field", BadRequest has the fields.
   * * RESOURCE_EXHAUSTED (DEADLINE_INFEASIBLE, CALLER_LIMIT, QUEUE_FULL, DAILY_BUDGET_EXHAUSTED): rate limited. Nothing was
   *   executed. Retry after the time in RetryInfo.
   * * UNAVAILABLE (UPSTREAM_UNAVAILABLE, SHUTTING_DOWN, OWNER_MOVED, TENANT_PAUSED): retry after the time in RetryInfo.
   * * FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED): an operator must check the keys of the account.
   * * DEADLINE_EXCEEDED (DEADLINE_EXCEEDED).
   * * UNKNOWN (UPSTREAM_EXCEPTION): LeadSquared rejected the request with an error that leadgate does not know.
   * * INTERNAL (UPSTREAM_UNREADABLE): the response of LeadSquared cannot be read.
   * Reads may also fail with RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE): a part that cannot be split is larger than the setting
   * `server.max_response_bytes`. Writes may also fail with ABORTED (OUTCOME_UNKNOWN). Writes with a request_id may also fail
   * with UNAVAILABLE (STORE_UNAVAILABLE).
   * # LEAD_DUPLICATE
   * Another lead has the same value of a unique attribute. The error has a ResourceInfo. `description` is the path of the
   * field, such as "lead.email_address"; ErrorInfo has it as `field`, too. `resource_name` is the id of the other lead, or
   * empty if it is not known. If LeadSquared does not return the id, leadgate may look the lead up by email address or phone
   * number. This takes one more upstream call, and is done only if a slot of the quota is free (setting
   * `writes.find_duplicates`).
   * # CALLER_NOT_ALLOWED
   * The settings of the caller do not allow some fields of the request: it may not write an attribute (`deny_fields`), or not
   * see it and not search by it (`hide_fields`). PERMISSION_DENIED with a BadRequest that lists all of these fields. Nothing was
   * sent. Responses leave out hidden attributes, and other errors do not name them.
   * # OUTCOME_UNKNOWN
   * The write was sent, but the response was lost, and a look-up could not find out whether it was executed. The key
   * `retry_same_request_id` in the metadata of ErrorInfo says what to do:
   * * "true": send the same request with the same request_id again, after the time in RetryInfo. leadgate then looks the
   *   write up and sends it only if it was not executed. Cause: the look-up failed, or did not finish before the deadline.
   * * "false": the same request_id cannot resolve the outcome, and there is no RetryInfo. Check the lead in LeadSquared. A
   *   request with another request_id, or without one, sends the write a second time. Causes: the write has no request_id;
   *   the write cannot be looked up (a create with a name only); or look-ups are not conclusive (CaptureLead of an existing
   *   lead, an update that runs automations, an activity that is not found). For shares, see ShareService.
   * Other errors of a write with a request_id have "true" if it is safe and useful to send the same request with the same
   * request_id again. If the error has RetryInfo, wait for that time. After DEADLINE_EXCEEDED, send the same request at once: a
   * write that was sent continues, and the same request_id returns its outcome. If the key is absent, the request has no
   * request_id, leadgate did not read it, or the same request would fail with the same error.
   * </pre>
   */
  public static abstract class LeadServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return LeadServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service LeadService.
   * <pre>
   * Leads of one LeadSquared account.
   * # Request metadata
   * * `authorization`: "Bearer " and an API key or a token, unless a client certificate identifies the caller. Required with
   *   the setting `auth.mode` = "callers".
   * * `x-leadgate-tenant`: the account. Required if the caller may use more than one account.
   * * `grpc-timeout`: the deadline. It bounds every wait, in the quota queue and for LeadSquared.
   * * `x-leadgate-caller` and `x-leadgate-criticality`: see QuotaService.
   * # Errors of all rpcs
   * Every error has google.rpc.ErrorInfo with the domain "leadgate". The reason of ErrorInfo is in parentheses here. Any rpc
   * may fail with:
   * * UNAUTHENTICATED (CALLER_UNKNOWN): there is no valid credential of a known caller. The error does not say more.
   * * PERMISSION_DENIED (CALLER_NOT_ALLOWED): the settings of the caller do not allow the request. `rule` in the metadata of
   *   ErrorInfo is "method", "tenant" (also if the tenant does not exist) or "field". With "field", BadRequest has the fields.
   * * RESOURCE_EXHAUSTED (DEADLINE_INFEASIBLE, CALLER_LIMIT, QUEUE_FULL, DAILY_BUDGET_EXHAUSTED): rate limited. Nothing was
   *   executed. Retry after the time in RetryInfo.
   * * UNAVAILABLE (UPSTREAM_UNAVAILABLE, SHUTTING_DOWN, OWNER_MOVED, TENANT_PAUSED): retry after the time in RetryInfo.
   * * FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED): an operator must check the keys of the account.
   * * DEADLINE_EXCEEDED (DEADLINE_EXCEEDED).
   * * UNKNOWN (UPSTREAM_EXCEPTION): LeadSquared rejected the request with an error that leadgate does not know.
   * * INTERNAL (UPSTREAM_UNREADABLE): the response of LeadSquared cannot be read.
   * Reads may also fail with RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE): a part that cannot be split is larger than the setting
   * `server.max_response_bytes`. Writes may also fail with ABORTED (OUTCOME_UNKNOWN). Writes with a request_id may also fail
   * with UNAVAILABLE (STORE_UNAVAILABLE).
   * # LEAD_DUPLICATE
   * Another lead has the same value of a unique attribute. The error has a ResourceInfo. `description` is the path of the
   * field, such as "lead.email_address"; ErrorInfo has it as `field`, too. `resource_name` is the id of the other lead, or
   * empty if it is not known. If LeadSquared does not return the id, leadgate may look the lead up by email address or phone
   * number. This takes one more upstream call, and is done only if a slot of the quota is free (setting
   * `writes.find_duplicates`).
   * # CALLER_NOT_ALLOWED
   * The settings of the caller do not allow some fields of the request: it may not write an attribute (`deny_fields`), or not
   * see it and not search by it (`hide_fields`). PERMISSION_DENIED with a BadRequest that lists all of these fields. Nothing was
   * sent. Responses leave out hidden attributes, and other errors do not name them.
   * # OUTCOME_UNKNOWN
   * The write was sent, but the response was lost, and a look-up could not find out whether it was executed. The key
   * `retry_same_request_id` in the metadata of ErrorInfo says what to do:
   * * "true": send the same request with the same request_id again, after the time in RetryInfo. leadgate then looks the
   *   write up and sends it only if it was not executed. Cause: the look-up failed, or did not finish before the deadline.
   * * "false": the same request_id cannot resolve the outcome, and there is no RetryInfo. Check the lead in LeadSquared. A
   *   request with another request_id, or without one, sends the write a second time. Causes: the write has no request_id;
   *   the write cannot be looked up (a create with a name only); or look-ups are not conclusive (CaptureLead of an existing
   *   lead, an update that runs automations, an activity that is not found). For shares, see ShareService.
   * Other errors of a write with a request_id have "true" if it is safe and useful to send the same request with the same
   * request_id again. If the error has RetryInfo, wait for that time. After DEADLINE_EXCEEDED, send the same request at once: a
   * write that was sent continues, and the same request_id returns its outcome. If the key is absent, the request has no
   * request_id, leadgate did not read it, or the same request would fail with the same error.
   * </pre>
   */
  public static final class LeadServiceStub
      extends io.grpc.stub.AbstractAsyncStub<LeadServiceStub> {
    private LeadServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected LeadServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new LeadServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a lead. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public void createLead(leadgate.v1.CreateLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.CreateLeadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateLeadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Updates the given attributes of a lead. Other attributes are not changed. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public void updateLead(leadgate.v1.UpdateLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.UpdateLeadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUpdateLeadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Updates the lead that matches, or creates a lead. One upstream call; up to four if another lead has the phone number.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public void upsertLead(leadgate.v1.UpsertLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.UpsertLeadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUpsertLeadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Captures a lead like a web form: updates the lead that matches or creates a lead, and posts LeadSquared's capture
     * activity.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public void captureLead(leadgate.v1.CaptureLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.CaptureLeadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCaptureLeadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads one lead. One upstream call; for a phone number up to three, one for each form in which accounts store it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    public void getLead(leadgate.v1.GetLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetLeadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetLeadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads up to 10,000 leads by id. One upstream call, and a second one to verify ids that were not returned. A missing id
     * is not an error. Leads that do not fit into one response are in remaining_lead_ids.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    public void batchGetLeads(leadgate.v1.BatchGetLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchGetLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getBatchGetLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Creates leads in bulk calls of up to 50. Unlike CreateLead, bulk calls did not start automations when they were
     * observed. Each request has its own result. The rpc itself fails only if no request was attempted.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as CreateLead.
     * </pre>
     */
    public void batchCreateLeads(leadgate.v1.BatchCreateLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchCreateLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getBatchCreateLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Updates leads in bulk calls of up to 25, or in single calls if slots are free. Updates of the same lead are executed in
     * the order of the requests. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpdateLead.
     * </pre>
     */
    public void batchUpdateLeads(leadgate.v1.BatchUpdateLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchUpdateLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getBatchUpdateLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Updates or creates leads in bulk calls of up to 25. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpsertLead.
     * </pre>
     */
    public void batchUpsertLeads(leadgate.v1.BatchUpsertLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.BatchUpsertLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getBatchUpsertLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Writes a stream of leads in bulk calls, and sends the result of each row when it is known. Results may arrive in any
     * order; use `sequence` to match them. The number of rows in progress is limited. At the limit, leadgate reads no more
     * rows until the caller reads results, so gRPC flow control slows the caller down. The trailers
     * x-leadgate-import-received, x-leadgate-import-succeeded and x-leadgate-import-failed have the counts. Only the deadline
     * of the caller ends the stream. Writes that were sent before the end are completed. A row with a request_id can be sent
     * again and is executed once.
     * Errors: UNAVAILABLE (SHUTTING_DOWN), RESOURCE_EXHAUSTED (QUEUE_FULL: too many streams, or the caller does not read).
     * Errors of a result: as the single rpc.
     * </pre>
     */
    public io.grpc.stub.StreamObserver<leadgate.v1.ImportLeadsRequest> importLeads(
        io.grpc.stub.StreamObserver<leadgate.v1.ImportLeadsResponse> responseObserver) {
      return io.grpc.stub.ClientCalls.asyncBidiStreamingCall(
          getChannel().newCall(getImportLeadsMethod(), getCallOptions()), responseObserver);
    }

    /**
     * <pre>
     * Lists the leads that match a criterion, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). An attribute that the account does not have is an error, because LeadSquared
     * would return all leads.
     * </pre>
     */
    public void searchLeads(leadgate.v1.SearchLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.SearchLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getSearchLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Finds leads by a text in name, email address, phone, company, city or country. One upstream call. The maximum number of
     * leads that LeadSquared returns is not documented. There are no pages: if the leads do not fit into one response, the
     * rpc fails.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    public void quickSearchLeads(leadgate.v1.QuickSearchLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.QuickSearchLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getQuickSearchLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the leads that were last modified in a time range, in pages, ordered by id. One upstream call per page. A lead
     * that is modified between two pages may be returned twice. A lead that stays in the range is never left out, with one
     * exception: if the range ends in the future and other leads are deleted between two pages. Deleted leads are not
     * returned. If leads left the range, the next page may repeat the previous one.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public void listModifiedLeads(leadgate.v1.ListModifiedLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListModifiedLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListModifiedLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams all leads that were last modified in a time range, each once. To resume an interrupted stream, send the last
     * resume_token that was received; leads that were received after that token are sent again. The stream has at least one
     * message, even without leads. Only the deadline of the caller ends the stream.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN), RESOURCE_EXHAUSTED (QUEUE_FULL: too many
     * streams, or the caller does not read).
     * </pre>
     */
    public void exportLeads(leadgate.v1.ExportLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ExportLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getExportLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Deletes a lead permanently. LeadSquared allows it only for accounts with this feature.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), FAILED_PRECONDITION
     * (UPSTREAM_FEATURE_DISABLED).
     * </pre>
     */
    public void deleteLead(leadgate.v1.DeleteLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.DeleteLeadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteLeadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Merges one lead into another lead. The merged lead is removed permanently.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    public void mergeLeads(leadgate.v1.MergeLeadsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.MergeLeadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getMergeLeadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Describes the attributes of the account's leads. No upstream call while the metadata is cached.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD: unknown name in schema_names).
     * </pre>
     */
    public void describeLeadFields(leadgate.v1.DescribeLeadFieldsRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.DescribeLeadFieldsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDescribeLeadFieldsMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service LeadService.
   * <pre>
   * Leads of one LeadSquared account.
   * # Request metadata
   * * `authorization`: "Bearer " and an API key or a token, unless a client certificate identifies the caller. Required with
   *   the setting `auth.mode` = "callers".
   * * `x-leadgate-tenant`: the account. Required if the caller may use more than one account.
   * * `grpc-timeout`: the deadline. It bounds every wait, in the quota queue and for LeadSquared.
   * * `x-leadgate-caller` and `x-leadgate-criticality`: see QuotaService.
   * # Errors of all rpcs
   * Every error has google.rpc.ErrorInfo with the domain "leadgate". The reason of ErrorInfo is in parentheses here. Any rpc
   * may fail with:
   * * UNAUTHENTICATED (CALLER_UNKNOWN): there is no valid credential of a known caller. The error does not say more.
   * * PERMISSION_DENIED (CALLER_NOT_ALLOWED): the settings of the caller do not allow the request. `rule` in the metadata of
   *   ErrorInfo is "method", "tenant" (also if the tenant does not exist) or "field". With "field", BadRequest has the fields.
   * * RESOURCE_EXHAUSTED (DEADLINE_INFEASIBLE, CALLER_LIMIT, QUEUE_FULL, DAILY_BUDGET_EXHAUSTED): rate limited. Nothing was
   *   executed. Retry after the time in RetryInfo.
   * * UNAVAILABLE (UPSTREAM_UNAVAILABLE, SHUTTING_DOWN, OWNER_MOVED, TENANT_PAUSED): retry after the time in RetryInfo.
   * * FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED): an operator must check the keys of the account.
   * * DEADLINE_EXCEEDED (DEADLINE_EXCEEDED).
   * * UNKNOWN (UPSTREAM_EXCEPTION): LeadSquared rejected the request with an error that leadgate does not know.
   * * INTERNAL (UPSTREAM_UNREADABLE): the response of LeadSquared cannot be read.
   * Reads may also fail with RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE): a part that cannot be split is larger than the setting
   * `server.max_response_bytes`. Writes may also fail with ABORTED (OUTCOME_UNKNOWN). Writes with a request_id may also fail
   * with UNAVAILABLE (STORE_UNAVAILABLE).
   * # LEAD_DUPLICATE
   * Another lead has the same value of a unique attribute. The error has a ResourceInfo. `description` is the path of the
   * field, such as "lead.email_address"; ErrorInfo has it as `field`, too. `resource_name` is the id of the other lead, or
   * empty if it is not known. If LeadSquared does not return the id, leadgate may look the lead up by email address or phone
   * number. This takes one more upstream call, and is done only if a slot of the quota is free (setting
   * `writes.find_duplicates`).
   * # CALLER_NOT_ALLOWED
   * The settings of the caller do not allow some fields of the request: it may not write an attribute (`deny_fields`), or not
   * see it and not search by it (`hide_fields`). PERMISSION_DENIED with a BadRequest that lists all of these fields. Nothing was
   * sent. Responses leave out hidden attributes, and other errors do not name them.
   * # OUTCOME_UNKNOWN
   * The write was sent, but the response was lost, and a look-up could not find out whether it was executed. The key
   * `retry_same_request_id` in the metadata of ErrorInfo says what to do:
   * * "true": send the same request with the same request_id again, after the time in RetryInfo. leadgate then looks the
   *   write up and sends it only if it was not executed. Cause: the look-up failed, or did not finish before the deadline.
   * * "false": the same request_id cannot resolve the outcome, and there is no RetryInfo. Check the lead in LeadSquared. A
   *   request with another request_id, or without one, sends the write a second time. Causes: the write has no request_id;
   *   the write cannot be looked up (a create with a name only); or look-ups are not conclusive (CaptureLead of an existing
   *   lead, an update that runs automations, an activity that is not found). For shares, see ShareService.
   * Other errors of a write with a request_id have "true" if it is safe and useful to send the same request with the same
   * request_id again. If the error has RetryInfo, wait for that time. After DEADLINE_EXCEEDED, send the same request at once: a
   * write that was sent continues, and the same request_id returns its outcome. If the key is absent, the request has no
   * request_id, leadgate did not read it, or the same request would fail with the same error.
   * </pre>
   */
  public static final class LeadServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<LeadServiceBlockingStub> {
    private LeadServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected LeadServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new LeadServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a lead. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public leadgate.v1.CreateLeadResponse createLead(leadgate.v1.CreateLeadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateLeadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Updates the given attributes of a lead. Other attributes are not changed. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public leadgate.v1.UpdateLeadResponse updateLead(leadgate.v1.UpdateLeadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUpdateLeadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Updates the lead that matches, or creates a lead. One upstream call; up to four if another lead has the phone number.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public leadgate.v1.UpsertLeadResponse upsertLead(leadgate.v1.UpsertLeadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUpsertLeadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Captures a lead like a web form: updates the lead that matches or creates a lead, and posts LeadSquared's capture
     * activity.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public leadgate.v1.CaptureLeadResponse captureLead(leadgate.v1.CaptureLeadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCaptureLeadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads one lead. One upstream call; for a phone number up to three, one for each form in which accounts store it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    public leadgate.v1.GetLeadResponse getLead(leadgate.v1.GetLeadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetLeadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads up to 10,000 leads by id. One upstream call, and a second one to verify ids that were not returned. A missing id
     * is not an error. Leads that do not fit into one response are in remaining_lead_ids.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    public leadgate.v1.BatchGetLeadsResponse batchGetLeads(leadgate.v1.BatchGetLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getBatchGetLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Creates leads in bulk calls of up to 50. Unlike CreateLead, bulk calls did not start automations when they were
     * observed. Each request has its own result. The rpc itself fails only if no request was attempted.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as CreateLead.
     * </pre>
     */
    public leadgate.v1.BatchCreateLeadsResponse batchCreateLeads(leadgate.v1.BatchCreateLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getBatchCreateLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Updates leads in bulk calls of up to 25, or in single calls if slots are free. Updates of the same lead are executed in
     * the order of the requests. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpdateLead.
     * </pre>
     */
    public leadgate.v1.BatchUpdateLeadsResponse batchUpdateLeads(leadgate.v1.BatchUpdateLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getBatchUpdateLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Updates or creates leads in bulk calls of up to 25. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpsertLead.
     * </pre>
     */
    public leadgate.v1.BatchUpsertLeadsResponse batchUpsertLeads(leadgate.v1.BatchUpsertLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getBatchUpsertLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the leads that match a criterion, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). An attribute that the account does not have is an error, because LeadSquared
     * would return all leads.
     * </pre>
     */
    public leadgate.v1.SearchLeadsResponse searchLeads(leadgate.v1.SearchLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getSearchLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Finds leads by a text in name, email address, phone, company, city or country. One upstream call. The maximum number of
     * leads that LeadSquared returns is not documented. There are no pages: if the leads do not fit into one response, the
     * rpc fails.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    public leadgate.v1.QuickSearchLeadsResponse quickSearchLeads(leadgate.v1.QuickSearchLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getQuickSearchLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the leads that were last modified in a time range, in pages, ordered by id. One upstream call per page. A lead
     * that is modified between two pages may be returned twice. A lead that stays in the range is never left out, with one
     * exception: if the range ends in the future and other leads are deleted between two pages. Deleted leads are not
     * returned. If leads left the range, the next page may repeat the previous one.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public leadgate.v1.ListModifiedLeadsResponse listModifiedLeads(leadgate.v1.ListModifiedLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListModifiedLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams all leads that were last modified in a time range, each once. To resume an interrupted stream, send the last
     * resume_token that was received; leads that were received after that token are sent again. The stream has at least one
     * message, even without leads. Only the deadline of the caller ends the stream.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN), RESOURCE_EXHAUSTED (QUEUE_FULL: too many
     * streams, or the caller does not read).
     * </pre>
     */
    public java.util.Iterator<leadgate.v1.ExportLeadsResponse> exportLeads(
        leadgate.v1.ExportLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getExportLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Deletes a lead permanently. LeadSquared allows it only for accounts with this feature.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), FAILED_PRECONDITION
     * (UPSTREAM_FEATURE_DISABLED).
     * </pre>
     */
    public leadgate.v1.DeleteLeadResponse deleteLead(leadgate.v1.DeleteLeadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteLeadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Merges one lead into another lead. The merged lead is removed permanently.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    public leadgate.v1.MergeLeadsResponse mergeLeads(leadgate.v1.MergeLeadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getMergeLeadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Describes the attributes of the account's leads. No upstream call while the metadata is cached.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD: unknown name in schema_names).
     * </pre>
     */
    public leadgate.v1.DescribeLeadFieldsResponse describeLeadFields(leadgate.v1.DescribeLeadFieldsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDescribeLeadFieldsMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service LeadService.
   * <pre>
   * Leads of one LeadSquared account.
   * # Request metadata
   * * `authorization`: "Bearer " and an API key or a token, unless a client certificate identifies the caller. Required with
   *   the setting `auth.mode` = "callers".
   * * `x-leadgate-tenant`: the account. Required if the caller may use more than one account.
   * * `grpc-timeout`: the deadline. It bounds every wait, in the quota queue and for LeadSquared.
   * * `x-leadgate-caller` and `x-leadgate-criticality`: see QuotaService.
   * # Errors of all rpcs
   * Every error has google.rpc.ErrorInfo with the domain "leadgate". The reason of ErrorInfo is in parentheses here. Any rpc
   * may fail with:
   * * UNAUTHENTICATED (CALLER_UNKNOWN): there is no valid credential of a known caller. The error does not say more.
   * * PERMISSION_DENIED (CALLER_NOT_ALLOWED): the settings of the caller do not allow the request. `rule` in the metadata of
   *   ErrorInfo is "method", "tenant" (also if the tenant does not exist) or "field". With "field", BadRequest has the fields.
   * * RESOURCE_EXHAUSTED (DEADLINE_INFEASIBLE, CALLER_LIMIT, QUEUE_FULL, DAILY_BUDGET_EXHAUSTED): rate limited. Nothing was
   *   executed. Retry after the time in RetryInfo.
   * * UNAVAILABLE (UPSTREAM_UNAVAILABLE, SHUTTING_DOWN, OWNER_MOVED, TENANT_PAUSED): retry after the time in RetryInfo.
   * * FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED): an operator must check the keys of the account.
   * * DEADLINE_EXCEEDED (DEADLINE_EXCEEDED).
   * * UNKNOWN (UPSTREAM_EXCEPTION): LeadSquared rejected the request with an error that leadgate does not know.
   * * INTERNAL (UPSTREAM_UNREADABLE): the response of LeadSquared cannot be read.
   * Reads may also fail with RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE): a part that cannot be split is larger than the setting
   * `server.max_response_bytes`. Writes may also fail with ABORTED (OUTCOME_UNKNOWN). Writes with a request_id may also fail
   * with UNAVAILABLE (STORE_UNAVAILABLE).
   * # LEAD_DUPLICATE
   * Another lead has the same value of a unique attribute. The error has a ResourceInfo. `description` is the path of the
   * field, such as "lead.email_address"; ErrorInfo has it as `field`, too. `resource_name` is the id of the other lead, or
   * empty if it is not known. If LeadSquared does not return the id, leadgate may look the lead up by email address or phone
   * number. This takes one more upstream call, and is done only if a slot of the quota is free (setting
   * `writes.find_duplicates`).
   * # CALLER_NOT_ALLOWED
   * The settings of the caller do not allow some fields of the request: it may not write an attribute (`deny_fields`), or not
   * see it and not search by it (`hide_fields`). PERMISSION_DENIED with a BadRequest that lists all of these fields. Nothing was
   * sent. Responses leave out hidden attributes, and other errors do not name them.
   * # OUTCOME_UNKNOWN
   * The write was sent, but the response was lost, and a look-up could not find out whether it was executed. The key
   * `retry_same_request_id` in the metadata of ErrorInfo says what to do:
   * * "true": send the same request with the same request_id again, after the time in RetryInfo. leadgate then looks the
   *   write up and sends it only if it was not executed. Cause: the look-up failed, or did not finish before the deadline.
   * * "false": the same request_id cannot resolve the outcome, and there is no RetryInfo. Check the lead in LeadSquared. A
   *   request with another request_id, or without one, sends the write a second time. Causes: the write has no request_id;
   *   the write cannot be looked up (a create with a name only); or look-ups are not conclusive (CaptureLead of an existing
   *   lead, an update that runs automations, an activity that is not found). For shares, see ShareService.
   * Other errors of a write with a request_id have "true" if it is safe and useful to send the same request with the same
   * request_id again. If the error has RetryInfo, wait for that time. After DEADLINE_EXCEEDED, send the same request at once: a
   * write that was sent continues, and the same request_id returns its outcome. If the key is absent, the request has no
   * request_id, leadgate did not read it, or the same request would fail with the same error.
   * </pre>
   */
  public static final class LeadServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<LeadServiceFutureStub> {
    private LeadServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected LeadServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new LeadServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a lead. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.CreateLeadResponse> createLead(
        leadgate.v1.CreateLeadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateLeadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Updates the given attributes of a lead. Other attributes are not changed. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.UpdateLeadResponse> updateLead(
        leadgate.v1.UpdateLeadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUpdateLeadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Updates the lead that matches, or creates a lead. One upstream call; up to four if another lead has the phone number.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.UpsertLeadResponse> upsertLead(
        leadgate.v1.UpsertLeadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUpsertLeadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Captures a lead like a web form: updates the lead that matches or creates a lead, and posts LeadSquared's capture
     * activity.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), ALREADY_EXISTS (LEAD_DUPLICATE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.CaptureLeadResponse> captureLead(
        leadgate.v1.CaptureLeadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCaptureLeadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads one lead. One upstream call; for a phone number up to three, one for each form in which accounts store it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.GetLeadResponse> getLead(
        leadgate.v1.GetLeadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetLeadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads up to 10,000 leads by id. One upstream call, and a second one to verify ids that were not returned. A missing id
     * is not an error. Leads that do not fit into one response are in remaining_lead_ids.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.BatchGetLeadsResponse> batchGetLeads(
        leadgate.v1.BatchGetLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getBatchGetLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Creates leads in bulk calls of up to 50. Unlike CreateLead, bulk calls did not start automations when they were
     * observed. Each request has its own result. The rpc itself fails only if no request was attempted.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as CreateLead.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.BatchCreateLeadsResponse> batchCreateLeads(
        leadgate.v1.BatchCreateLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getBatchCreateLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Updates leads in bulk calls of up to 25, or in single calls if slots are free. Updates of the same lead are executed in
     * the order of the requests. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpdateLead.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.BatchUpdateLeadsResponse> batchUpdateLeads(
        leadgate.v1.BatchUpdateLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getBatchUpdateLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Updates or creates leads in bulk calls of up to 25. Each request has its own result, as in BatchCreateLeads.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). Errors of a result: as UpsertLead.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.BatchUpsertLeadsResponse> batchUpsertLeads(
        leadgate.v1.BatchUpsertLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getBatchUpsertLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the leads that match a criterion, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD). An attribute that the account does not have is an error, because LeadSquared
     * would return all leads.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.SearchLeadsResponse> searchLeads(
        leadgate.v1.SearchLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getSearchLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Finds leads by a text in name, email address, phone, company, city or country. One upstream call. The maximum number of
     * leads that LeadSquared returns is not documented. There are no pages: if the leads do not fit into one response, the
     * rpc fails.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), RESOURCE_EXHAUSTED (RESPONSE_TOO_LARGE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.QuickSearchLeadsResponse> quickSearchLeads(
        leadgate.v1.QuickSearchLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getQuickSearchLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the leads that were last modified in a time range, in pages, ordered by id. One upstream call per page. A lead
     * that is modified between two pages may be returned twice. A lead that stays in the range is never left out, with one
     * exception: if the range ends in the future and other leads are deleted between two pages. Deleted leads are not
     * returned. If leads left the range, the next page may repeat the previous one.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ListModifiedLeadsResponse> listModifiedLeads(
        leadgate.v1.ListModifiedLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListModifiedLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Deletes a lead permanently. LeadSquared allows it only for accounts with this feature.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), FAILED_PRECONDITION
     * (UPSTREAM_FEATURE_DISABLED).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.DeleteLeadResponse> deleteLead(
        leadgate.v1.DeleteLeadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteLeadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Merges one lead into another lead. The merged lead is removed permanently.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.MergeLeadsResponse> mergeLeads(
        leadgate.v1.MergeLeadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getMergeLeadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Describes the attributes of the account's leads. No upstream call while the metadata is cached.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD: unknown name in schema_names).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.DescribeLeadFieldsResponse> describeLeadFields(
        leadgate.v1.DescribeLeadFieldsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDescribeLeadFieldsMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_CREATE_LEAD = 0;
  private static final int METHODID_UPDATE_LEAD = 1;
  private static final int METHODID_UPSERT_LEAD = 2;
  private static final int METHODID_CAPTURE_LEAD = 3;
  private static final int METHODID_GET_LEAD = 4;
  private static final int METHODID_BATCH_GET_LEADS = 5;
  private static final int METHODID_BATCH_CREATE_LEADS = 6;
  private static final int METHODID_BATCH_UPDATE_LEADS = 7;
  private static final int METHODID_BATCH_UPSERT_LEADS = 8;
  private static final int METHODID_SEARCH_LEADS = 9;
  private static final int METHODID_QUICK_SEARCH_LEADS = 10;
  private static final int METHODID_LIST_MODIFIED_LEADS = 11;
  private static final int METHODID_EXPORT_LEADS = 12;
  private static final int METHODID_DELETE_LEAD = 13;
  private static final int METHODID_MERGE_LEADS = 14;
  private static final int METHODID_DESCRIBE_LEAD_FIELDS = 15;
  private static final int METHODID_IMPORT_LEADS = 16;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_CREATE_LEAD:
          serviceImpl.createLead((leadgate.v1.CreateLeadRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.CreateLeadResponse>) responseObserver);
          break;
        case METHODID_UPDATE_LEAD:
          serviceImpl.updateLead((leadgate.v1.UpdateLeadRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.UpdateLeadResponse>) responseObserver);
          break;
        case METHODID_UPSERT_LEAD:
          serviceImpl.upsertLead((leadgate.v1.UpsertLeadRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.UpsertLeadResponse>) responseObserver);
          break;
        case METHODID_CAPTURE_LEAD:
          serviceImpl.captureLead((leadgate.v1.CaptureLeadRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.CaptureLeadResponse>) responseObserver);
          break;
        case METHODID_GET_LEAD:
          serviceImpl.getLead((leadgate.v1.GetLeadRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.GetLeadResponse>) responseObserver);
          break;
        case METHODID_BATCH_GET_LEADS:
          serviceImpl.batchGetLeads((leadgate.v1.BatchGetLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.BatchGetLeadsResponse>) responseObserver);
          break;
        case METHODID_BATCH_CREATE_LEADS:
          serviceImpl.batchCreateLeads((leadgate.v1.BatchCreateLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.BatchCreateLeadsResponse>) responseObserver);
          break;
        case METHODID_BATCH_UPDATE_LEADS:
          serviceImpl.batchUpdateLeads((leadgate.v1.BatchUpdateLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.BatchUpdateLeadsResponse>) responseObserver);
          break;
        case METHODID_BATCH_UPSERT_LEADS:
          serviceImpl.batchUpsertLeads((leadgate.v1.BatchUpsertLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.BatchUpsertLeadsResponse>) responseObserver);
          break;
        case METHODID_SEARCH_LEADS:
          serviceImpl.searchLeads((leadgate.v1.SearchLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.SearchLeadsResponse>) responseObserver);
          break;
        case METHODID_QUICK_SEARCH_LEADS:
          serviceImpl.quickSearchLeads((leadgate.v1.QuickSearchLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.QuickSearchLeadsResponse>) responseObserver);
          break;
        case METHODID_LIST_MODIFIED_LEADS:
          serviceImpl.listModifiedLeads((leadgate.v1.ListModifiedLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ListModifiedLeadsResponse>) responseObserver);
          break;
        case METHODID_EXPORT_LEADS:
          serviceImpl.exportLeads((leadgate.v1.ExportLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ExportLeadsResponse>) responseObserver);
          break;
        case METHODID_DELETE_LEAD:
          serviceImpl.deleteLead((leadgate.v1.DeleteLeadRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.DeleteLeadResponse>) responseObserver);
          break;
        case METHODID_MERGE_LEADS:
          serviceImpl.mergeLeads((leadgate.v1.MergeLeadsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.MergeLeadsResponse>) responseObserver);
          break;
        case METHODID_DESCRIBE_LEAD_FIELDS:
          serviceImpl.describeLeadFields((leadgate.v1.DescribeLeadFieldsRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.DescribeLeadFieldsResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_IMPORT_LEADS:
          return (io.grpc.stub.StreamObserver<Req>) serviceImpl.importLeads(
              (io.grpc.stub.StreamObserver<leadgate.v1.ImportLeadsResponse>) responseObserver);
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getCreateLeadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.CreateLeadRequest,
              leadgate.v1.CreateLeadResponse>(
                service, METHODID_CREATE_LEAD)))
        .addMethod(
          getUpdateLeadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.UpdateLeadRequest,
              leadgate.v1.UpdateLeadResponse>(
                service, METHODID_UPDATE_LEAD)))
        .addMethod(
          getUpsertLeadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.UpsertLeadRequest,
              leadgate.v1.UpsertLeadResponse>(
                service, METHODID_UPSERT_LEAD)))
        .addMethod(
          getCaptureLeadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.CaptureLeadRequest,
              leadgate.v1.CaptureLeadResponse>(
                service, METHODID_CAPTURE_LEAD)))
        .addMethod(
          getGetLeadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.GetLeadRequest,
              leadgate.v1.GetLeadResponse>(
                service, METHODID_GET_LEAD)))
        .addMethod(
          getBatchGetLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.BatchGetLeadsRequest,
              leadgate.v1.BatchGetLeadsResponse>(
                service, METHODID_BATCH_GET_LEADS)))
        .addMethod(
          getBatchCreateLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.BatchCreateLeadsRequest,
              leadgate.v1.BatchCreateLeadsResponse>(
                service, METHODID_BATCH_CREATE_LEADS)))
        .addMethod(
          getBatchUpdateLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.BatchUpdateLeadsRequest,
              leadgate.v1.BatchUpdateLeadsResponse>(
                service, METHODID_BATCH_UPDATE_LEADS)))
        .addMethod(
          getBatchUpsertLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.BatchUpsertLeadsRequest,
              leadgate.v1.BatchUpsertLeadsResponse>(
                service, METHODID_BATCH_UPSERT_LEADS)))
        .addMethod(
          getImportLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncBidiStreamingCall(
            new MethodHandlers<
              leadgate.v1.ImportLeadsRequest,
              leadgate.v1.ImportLeadsResponse>(
                service, METHODID_IMPORT_LEADS)))
        .addMethod(
          getSearchLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.SearchLeadsRequest,
              leadgate.v1.SearchLeadsResponse>(
                service, METHODID_SEARCH_LEADS)))
        .addMethod(
          getQuickSearchLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.QuickSearchLeadsRequest,
              leadgate.v1.QuickSearchLeadsResponse>(
                service, METHODID_QUICK_SEARCH_LEADS)))
        .addMethod(
          getListModifiedLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ListModifiedLeadsRequest,
              leadgate.v1.ListModifiedLeadsResponse>(
                service, METHODID_LIST_MODIFIED_LEADS)))
        .addMethod(
          getExportLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              leadgate.v1.ExportLeadsRequest,
              leadgate.v1.ExportLeadsResponse>(
                service, METHODID_EXPORT_LEADS)))
        .addMethod(
          getDeleteLeadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.DeleteLeadRequest,
              leadgate.v1.DeleteLeadResponse>(
                service, METHODID_DELETE_LEAD)))
        .addMethod(
          getMergeLeadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.MergeLeadsRequest,
              leadgate.v1.MergeLeadsResponse>(
                service, METHODID_MERGE_LEADS)))
        .addMethod(
          getDescribeLeadFieldsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.DescribeLeadFieldsRequest,
              leadgate.v1.DescribeLeadFieldsResponse>(
                service, METHODID_DESCRIBE_LEAD_FIELDS)))
        .build();
  }

  private static abstract class LeadServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    LeadServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return leadgate.v1.LeadProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("LeadService");
    }
  }

  private static final class LeadServiceFileDescriptorSupplier
      extends LeadServiceBaseDescriptorSupplier {
    LeadServiceFileDescriptorSupplier() {}
  }

  private static final class LeadServiceMethodDescriptorSupplier
      extends LeadServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    LeadServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (LeadServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new LeadServiceFileDescriptorSupplier())
              .addMethod(getCreateLeadMethod())
              .addMethod(getUpdateLeadMethod())
              .addMethod(getUpsertLeadMethod())
              .addMethod(getCaptureLeadMethod())
              .addMethod(getGetLeadMethod())
              .addMethod(getBatchGetLeadsMethod())
              .addMethod(getBatchCreateLeadsMethod())
              .addMethod(getBatchUpdateLeadsMethod())
              .addMethod(getBatchUpsertLeadsMethod())
              .addMethod(getImportLeadsMethod())
              .addMethod(getSearchLeadsMethod())
              .addMethod(getQuickSearchLeadsMethod())
              .addMethod(getListModifiedLeadsMethod())
              .addMethod(getExportLeadsMethod())
              .addMethod(getDeleteLeadMethod())
              .addMethod(getMergeLeadsMethod())
              .addMethod(getDescribeLeadFieldsMethod())
              .build();
        }
      }
    }
    return result;
  }
}
