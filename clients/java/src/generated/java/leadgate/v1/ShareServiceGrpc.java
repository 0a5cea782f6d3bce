package leadgate.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Grants access to sales users for a limited time, follows LeadSquared's asynchronous requests, and revokes access.
 * LeadSquared has no list of shares. leadgate keeps a ledger of the shares that were made through leadgate. Shares by
 * automations or by other programs are not in it. Every list states its source (`source`).
 * Any rpc may fail with the errors that LeadService lists for all rpcs. Mutations of shares may also fail with
 * FAILED_PRECONDITION (UPSTREAM_FEATURE_DISABLED, NOT_A_SALES_USER, SHARE_LIMIT_REACHED).
 * OUTCOME_UNKNOWN means that the share is UNCERTAIN. The metadata of ErrorInfo has its `share_id`. GetShare returns the
 * share, and RetryShare or RevokeShare resolves it. The same request_id would only return the same share, so
 * `retry_same_request_id` is "false" in all errors with a share_id.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class ShareServiceGrpc {

  private ShareServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "leadgate.v1.ShareService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ShareLeadRequest,
      leadgate.v1.ShareLeadResponse> getShareLeadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ShareLead",
      requestType = leadgate.v1.ShareLeadRequest.class,
      responseType = leadgate.v1.ShareLeadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ShareLeadRequest,
      leadgate.v1.ShareLeadResponse> getShareLeadMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ShareLeadRequest, leadgate.v1.ShareLeadResponse> getShareLeadMethod;
    if ((getShareLeadMethod = ShareServiceGrpc.getShareLeadMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getShareLeadMethod = ShareServiceGrpc.getShareLeadMethod) == null) {
          ShareServiceGrpc.getShareLeadMethod = getShareLeadMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ShareLeadRequest, leadgate.v1.ShareLeadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ShareLead"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ShareLeadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ShareLeadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("ShareLead"))
              .build();
        }
      }
    }
    return getShareLeadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ShareOpportunityRequest,
      leadgate.v1.ShareOpportunityResponse> getShareOpportunityMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ShareOpportunity",
      requestType = leadgate.v1.ShareOpportunityRequest.class,
      responseType = leadgate.v1.ShareOpportunityResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ShareOpportunityRequest,
      leadgate.v1.ShareOpportunityResponse> getShareOpportunityMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ShareOpportunityRequest, leadgate.v1.ShareOpportunityResponse> getShareOpportunityMethod;
    if ((getShareOpportunityMethod = ShareServiceGrpc.getShareOpportunityMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getShareOpportunityMethod = ShareServiceGrpc.getShareOpportunityMethod) == null) {
          ShareServiceGrpc.getShareOpportunityMethod = getShareOpportunityMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ShareOpportunityRequest, leadgate.v1.ShareOpportunityResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ShareOpportunity"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ShareOpportunityRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ShareOpportunityResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("ShareOpportunity"))
              .build();
        }
      }
    }
    return getShareOpportunityMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.GetShareRequest,
      leadgate.v1.GetShareResponse> getGetShareMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetShare",
      requestType = leadgate.v1.GetShareRequest.class,
      responseType = leadgate.v1.GetShareResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.GetShareRequest,
      leadgate.v1.GetShareResponse> getGetShareMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.GetShareRequest, leadgate.v1.GetShareResponse> getGetShareMethod;
    if ((getGetShareMethod = ShareServiceGrpc.getGetShareMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getGetShareMethod = ShareServiceGrpc.getGetShareMethod) == null) {
          ShareServiceGrpc.getGetShareMethod = getGetShareMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.GetShareRequest, leadgate.v1.GetShareResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetShare"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetShareRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetShareResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("GetShare"))
              .build();
        }
      }
    }
    return getGetShareMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ListSharesRequest,
      leadgate.v1.ListSharesResponse> getListSharesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListShares",
      requestType = leadgate.v1.ListSharesRequest.class,
      responseType = leadgate.v1.ListSharesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ListSharesRequest,
      leadgate.v1.ListSharesResponse> getListSharesMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ListSharesRequest, leadgate.v1.ListSharesResponse> getListSharesMethod;
    if ((getListSharesMethod = ShareServiceGrpc.getListSharesMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getListSharesMethod = ShareServiceGrpc.getListSharesMethod) == null) {
          ShareServiceGrpc.getListSharesMethod = getListSharesMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ListSharesRequest, leadgate.v1.ListSharesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListShares"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListSharesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListSharesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("ListShares"))
              .build();
        }
      }
    }
    return getListSharesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.WatchShareRequest,
      leadgate.v1.WatchShareResponse> getWatchShareMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchShare",
      requestType = leadgate.v1.WatchShareRequest.class,
      responseType = leadgate.v1.WatchShareResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<leadgate.v1.WatchShareRequest,
      leadgate.v1.WatchShareResponse> getWatchShareMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.WatchShareRequest, leadgate.v1.WatchShareResponse> getWatchShareMethod;
    if ((getWatchShareMethod = ShareServiceGrpc.getWatchShareMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getWatchShareMethod = ShareServiceGrpc.getWatchShareMethod) == null) {
          ShareServiceGrpc.getWatchShareMethod = getWatchShareMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.WatchShareRequest, leadgate.v1.WatchShareResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchShare"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.WatchShareRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.WatchShareResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("WatchShare"))
              .build();
        }
      }
    }
    return getWatchShareMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.RevokeShareRequest,
      leadgate.v1.RevokeShareResponse> getRevokeShareMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RevokeShare",
      requestType = leadgate.v1.RevokeShareRequest.class,
      responseType = leadgate.v1.RevokeShareResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.RevokeShareRequest,
      leadgate.v1.RevokeShareResponse> getRevokeShareMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.RevokeShareRequest, leadgate.v1.RevokeShareResponse> getRevokeShareMethod;
    if ((getRevokeShareMethod = ShareServiceGrpc.getRevokeShareMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getRevokeShareMethod = ShareServiceGrpc.getRevokeShareMethod) == null) {
          ShareServiceGrpc.getRevokeShareMethod = getRevokeShareMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.RevokeShareRequest, leadgate.v1.RevokeShareResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RevokeShare"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.RevokeShareRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.RevokeShareResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("RevokeShare"))
              .build();
        }
      }
    }
    return getRevokeShareMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.RevokeSharesRequest,
      leadgate.v1.RevokeSharesResponse> getRevokeSharesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RevokeShares",
      requestType = leadgate.v1.RevokeSharesRequest.class,
      responseType = leadgate.v1.RevokeSharesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<leadgate.v1.RevokeSharesRequest,
      leadgate.v1.RevokeSharesResponse> getRevokeSharesMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.RevokeSharesRequest, leadgate.v1.RevokeSharesResponse> getRevokeSharesMethod;
    if ((getRevokeSharesMethod = ShareServiceGrpc.getRevokeSharesMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getRevokeSharesMethod = ShareServiceGrpc.getRevokeSharesMethod) == null) {
          ShareServiceGrpc.getRevokeSharesMethod = getRevokeSharesMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.RevokeSharesRequest, leadgate.v1.RevokeSharesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RevokeShares"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.RevokeSharesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.RevokeSharesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("RevokeShares"))
              .build();
        }
      }
    }
    return getRevokeSharesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ExtendShareRequest,
      leadgate.v1.ExtendShareResponse> getExtendShareMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ExtendShare",
      requestType = leadgate.v1.ExtendShareRequest.class,
      responseType = leadgate.v1.ExtendShareResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ExtendShareRequest,
      leadgate.v1.ExtendShareResponse> getExtendShareMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ExtendShareRequest, leadgate.v1.ExtendShareResponse> getExtendShareMethod;
    if ((getExtendShareMethod = ShareServiceGrpc.getExtendShareMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getExtendShareMethod = ShareServiceGrpc.getExtendShareMethod) == null) {
          ShareServiceGrpc.getExtendShareMethod = getExtendShareMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ExtendShareRequest, leadgate.v1.ExtendShareResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ExtendShare"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ExtendShareRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ExtendShareResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("ExtendShare"))
              .build();
        }
      }
    }
    return getExtendShareMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.RetryShareRequest,
      leadgate.v1.RetryShareResponse> getRetryShareMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RetryShare",
      requestType = leadgate.v1.RetryShareRequest.class,
      responseType = leadgate.v1.RetryShareResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.RetryShareRequest,
      leadgate.v1.RetryShareResponse> getRetryShareMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.RetryShareRequest, leadgate.v1.RetryShareResponse> getRetryShareMethod;
    if ((getRetryShareMethod = ShareServiceGrpc.getRetryShareMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getRetryShareMethod = ShareServiceGrpc.getRetryShareMethod) == null) {
          ShareServiceGrpc.getRetryShareMethod = getRetryShareMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.RetryShareRequest, leadgate.v1.RetryShareResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RetryShare"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.RetryShareRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.RetryShareResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("RetryShare"))
              .build();
        }
      }
    }
    return getRetryShareMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.GetUserShareUsageRequest,
      leadgate.v1.GetUserShareUsageResponse> getGetUserShareUsageMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetUserShareUsage",
      requestType = leadgate.v1.GetUserShareUsageRequest.class,
      responseType = leadgate.v1.GetUserShareUsageResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.GetUserShareUsageRequest,
      leadgate.v1.GetUserShareUsageResponse> getGetUserShareUsageMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.GetUserShareUsageRequest, leadgate.v1.GetUserShareUsageResponse> getGetUserShareUsageMethod;
    if ((getGetUserShareUsageMethod = ShareServiceGrpc.getGetUserShareUsageMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getGetUserShareUsageMethod = ShareServiceGrpc.getGetUserShareUsageMethod) == null) {
          ShareServiceGrpc.getGetUserShareUsageMethod = getGetUserShareUsageMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.GetUserShareUsageRequest, leadgate.v1.GetUserShareUsageResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetUserShareUsage"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetUserShareUsageRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetUserShareUsageResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("GetUserShareUsage"))
              .build();
        }
      }
    }
    return getGetUserShareUsageMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.GetShareRequestStatusRequest,
      leadgate.v1.GetShareRequestStatusResponse> getGetShareRequestStatusMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetShareRequestStatus",
      requestType = leadgate.v1.GetShareRequestStatusRequest.class,
      responseType = leadgate.v1.GetShareRequestStatusResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.GetShareRequestStatusRequest,
      leadgate.v1.GetShareRequestStatusResponse> getGetShareRequestStatusMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.GetShareRequestStatusRequest, leadgate.v1.GetShareRequestStatusResponse> getGetShareRequestStatusMethod;
    if ((getGetShareRequestStatusMethod = ShareServiceGrpc.getGetShareRequestStatusMethod) == null) {
      synchronized (ShareServiceGrpc.class) {
        if ((getGetShareRequestStatusMethod = ShareServiceGrpc.getGetShareRequestStatusMethod) == null) {
          ShareServiceGrpc.getGetShareRequestStatusMethod = getGetShareRequestStatusMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.GetShareRequestStatusRequest, leadgate.v1.GetShareRequestStatusResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetShareRequestStatus"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetShareRequestStatusRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetShareRequestStatusResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ShareServiceMethodDescriptorSupplier("GetShareRequestStatus"))
              .build();
        }
      }
    }
    return getGetShareRequestStatusMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static ShareServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ShareServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ShareServiceStub>() {
        @java.lang.Override
        public ShareServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ShareServiceStub(channel, callOptions);
        }
      };
    return ShareServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static ShareServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ShareServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ShareServiceBlockingStub>() {
        @java.lang.Override
        public ShareServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ShareServiceBlockingStub(channel, callOptions);
        }
      };
    return ShareServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static ShareServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ShareServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ShareServiceFutureStub>() {
        @java.lang.Override
        public ShareServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ShareServiceFutureStub(channel, callOptions);
        }
      };
    return ShareServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Grants access to sales users for a limited time, follows LeadSquared's asynchronous requests, and revokes access.
   * LeadSquared has no list of shares. leadgate keeps a ledger of the shares that were made through leadgate. Shares by
   * automations or by other programs are not in it. Every list states its source (`source`).
   * Any rpc may fail with the errors that LeadService lists for all rpcs. Mutations of shares may also fail with
   * FAILED_PRECONDITION (UPSTREAM_FEATURE_DISABLED, NOT_A_SALES_USER, SHARE_LIMIT_REACHED).
   * OUTCOME_UNKNOWN means that the share is UNCERTAIN. The metadata of ErrorInfo has its `share_id`. GetShare returns the
   * share, and RetryShare or RevokeShare resolves it. The same request_id would only return the same share, so
   * `retry_same_request_id` is "false" in all errors with a share_id.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Shares a lead with a user. leadgate looks up the lead and the user, posts the activity that LeadSquared requires as
     * context, requests the share, and follows the request.
     * Once the share is in the ledger, the deadline ends only the wait: the share continues, and the response has its current
     * state. If an error has no share_id in its metadata, no share was created. After the caller's own deadline, send the
     * same request with the same request_id again: it returns the current state of the share. A state that the share has
     * passed counts as reached. A share that is REVOKING, REVOKED or EXPIRED is returned at once, for any value of wait_for.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND, USER_NOT_FOUND, ACTIVITY_NOT_FOUND),
     * ALREADY_EXISTS (SHARE_EXISTS, with the existing share as ResourceInfo), ABORTED (OUTCOME_UNKNOWN: the share is
     * UNCERTAIN).
     * </pre>
     */
    default void shareLead(leadgate.v1.ShareLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ShareLeadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getShareLeadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Shares an opportunity with a user. No activity is required.
     * Errors: as ShareLead, and NOT_FOUND (OPPORTUNITY_NOT_FOUND).
     * </pre>
     */
    default void shareOpportunity(leadgate.v1.ShareOpportunityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ShareOpportunityResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getShareOpportunityMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a share from the ledger, with its history.
     * Errors: NOT_FOUND (SHARE_NOT_FOUND).
     * </pre>
     */
    default void getShare(leadgate.v1.GetShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetShareResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetShareMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists shares from the ledger, newest first, in pages.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    default void listShares(leadgate.v1.ListSharesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListSharesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListSharesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams the current state of a share and each change, until the share is EXPIRED, FAILED or REVOKED. If two
     * changes follow quickly, the first one may be left out. Without a deadline, the stream ends with the share, but after a
     * day at most.
     * Errors: NOT_FOUND (SHARE_NOT_FOUND), UNAVAILABLE (SHUTTING_DOWN: watch again, on another replica or later).
     * </pre>
     */
    default void watchShare(leadgate.v1.WatchShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.WatchShareResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchShareMethod(), responseObserver);
    }

    /**
     * <pre>
     * Revokes access, by share, or by lead, user and activity.
     * * A share that was not requested from LeadSquared yet is REVOKED at once.
     * * A share that is REVOKED already stays REVOKED.
     * * A share that LeadSquared does not have, according to its response, is REVOKED.
     * * The shares that extend the share (ExtendShare) are revoked with it.
     * * LeadSquared does not distinguish the shares of an opportunity with one user: all of them are revoked.
     * * An UNCERTAIN share is revoked `tenants.NAME.sharing.settle_after` (default 30 s) after the lost request. Use a
     *   timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE: the share
     * is EXPIRED or FAILED), ABORTED (OUTCOME_UNKNOWN). If LeadSquared rejects the revoke, the error has its reason, and the
     * share stays ACTIVE.
     * </pre>
     */
    default void revokeShare(leadgate.v1.RevokeShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.RevokeShareResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRevokeShareMethod(), responseObserver);
    }

    /**
     * <pre>
     * Revokes the shares of a user, of a lead, or of a user and a lead, according to the ledger. Each share has its own result,
     * which is sent as soon as LeadSquared has accepted the request.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN).
     * </pre>
     */
    default void revokeShares(leadgate.v1.RevokeSharesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.RevokeSharesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRevokeSharesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Extends access without a gap: makes a new share, and revokes the old one when the new one is ACTIVE. A lead is shared
     * through a new activity of the same type, or of the default type if the old activity was given by its id. An opportunity
     * is shared again, and the old share is then EXPIRED.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE).
     * </pre>
     */
    default void extendShare(leadgate.v1.ExtendShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ExtendShareResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getExtendShareMethod(), responseObserver);
    }

    /**
     * <pre>
     * Resolves a share that is FAILED or UNCERTAIN: repeats the failed or uncertain step. If LeadSquared has accepted a
     * request, its status is queried again.
     * If access may have been granted already, the share is first revoked, and requested again only after the revoke is
     * processed, so that the same access is not granted twice. If the revoke fails, the share is UNCERTAIN again. In two
     * cases no revoke is sent: if the setting `tenants.NAME.sharing.may_ask_again` is true, and for an extension of an
     * opportunity, because a revoke would also end the extended share. A revoke is sent
     * `tenants.NAME.sharing.settle_after` (default 30 s) after a lost request, so that LeadSquared does not receive the
     * revoke before that request. Use a timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * RevokeShare also resolves an UNCERTAIN share.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_RETRYABLE).
     * </pre>
     */
    default void retryShare(leadgate.v1.RetryShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.RetryShareResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRetryShareMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the number of leads that are shared with a user, according to the ledger.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (USER_NOT_FOUND).
     * </pre>
     */
    default void getUserShareUsage(leadgate.v1.GetUserShareUsageRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetUserShareUsageResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetUserShareUsageMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the status of one of LeadSquared's share requests. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    default void getShareRequestStatus(leadgate.v1.GetShareRequestStatusRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetShareRequestStatusResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetShareRequestStatusMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service ShareService.
   * <pre>
   * Grants access to sales users for a limited time, follows LeadSquared's asynchronous requests, and revokes access.
   * LeadSquared has no list of shares. leadgate keeps a ledger of the shares that were made through leadgate. Shares by
   * automations or by other programs are not in it. Every list states its source (`source`).
   * Any rpc may fail with the errors that LeadService lists for all rpcs. Mutations of shares may also fail with
   * FAILED_PRECONDITION (UPSTREAM_FEATURE_DISABLED, NOT_A_SALES_USER, SHARE_LIMIT_REACHED).
   * OUTCOME_UNKNOWN means that the share is UNCERTAIN. The metadata of ErrorInfo has its `share_id`. GetShare returns the
   * share, and RetryShare or RevokeShare resolves it. The same request_id would only return the same share, so
   * `retry_same_request_id` is "false" in all errors with a share_id.
   * </pre>
   */
  public static abstract class ShareServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return ShareServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service ShareService.
   * <pre>
   * Grants access to sales users for a limited time, follows LeadSquared's asynchronous requests, and revokes access.
   * LeadSquared has no list of shares. leadgate keeps a ledger of the shares that were made through leadgate. Shares by
   * automations or by other programs are not in it. Every list states its source (`source`).
   * Any rpc may fail with the errors that LeadService lists for all rpcs. Mutations of shares may also fail with
   * FAILED_PRECONDITION (UPSTREAM_FEATURE_DISABLED, NOT_A_SALES_USER, SHARE_LIMIT_REACHED).
   * OUTCOME_UNKNOWN means that the share is UNCERTAIN. The metadata of ErrorInfo has its `share_id`. GetShare returns the
   * share, and RetryShare or RevokeShare resolves it. The same request_id would only return the same share, so
   * `retry_same_request_id` is "false" in all errors with a share_id.
   * </pre>
   */
  public static final class ShareServiceStub
      extends io.grpc.stub.AbstractAsyncStub<ShareServiceStub> {
    private ShareServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ShareServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ShareServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Shares a lead with a user. leadgate looks up the lead and the user, posts the activity that LeadSquared requires as
     * context, requests the share, and follows the request.
     * Once the share is in the ledger, the deadline ends only the wait: the share continues, and the response has its current
     * state. If an error has no share_id in its metadata, no share was created. After the caller's own deadline, send the
     * same request with the same request_id again: it returns the current state of the share. A state that the share has
     * passed counts as reached. A share that is REVOKING, REVOKED or EXPIRED is returned at once, for any value of wait_for.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND, USER_NOT_FOUND, ACTIVITY_NOT_FOUND),
     * ALREADY_EXISTS (SHARE_EXISTS, with the existing share as ResourceInfo), ABORTED (OUTCOME_UNKNOWN: the share is
     * UNCERTAIN).
     * </pre>
     */
    public void shareLead(leadgate.v1.ShareLeadRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ShareLeadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getShareLeadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Shares an opportunity with a user. No activity is required.
     * Errors: as ShareLead, and NOT_FOUND (OPPORTUNITY_NOT_FOUND).
     * </pre>
     */
    public void shareOpportunity(leadgate.v1.ShareOpportunityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ShareOpportunityResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getShareOpportunityMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a share from the ledger, with its history.
     * Errors: NOT_FOUND (SHARE_NOT_FOUND).
     * </pre>
     */
    public void getShare(leadgate.v1.GetShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetShareResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetShareMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists shares from the ledger, newest first, in pages.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public void listShares(leadgate.v1.ListSharesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListSharesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListSharesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams the current state of a share and each change, until the share is EXPIRED, FAILED or REVOKED. If two
     * changes follow quickly, the first one may be left out. Without a deadline, the stream ends with the share, but after a
     * day at most.
     * Errors: NOT_FOUND (SHARE_NOT_FOUND), UNAVAILABLE (SHUTTING_DOWN: watch again, on another replica or later).
     * </pre>
     */
    public void watchShare(leadgate.v1.WatchShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.WatchShareResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchShareMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Revokes access, by share, or by lead, user and activity.
     * * A share that was not requested from LeadSquared yet is REVOKED at once.
     * * A share that is REVOKED already stays REVOKED.
     * * A share that LeadSquared does not have, according to its response, is REVOKED.
     * * The shares that extend the share (ExtendShare) are revoked with it.
     * * LeadSquared does not distinguish the shares of an opportunity with one user: all of them are revoked.
     * * An UNCERTAIN share is revoked `tenants.NAME.sharing.settle_after` (default 30 s) after the lost request. Use a
     *   timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE: the share
     * is EXPIRED or FAILED), ABORTED (OUTCOME_UNKNOWN). If LeadSquared rejects the revoke, the error has its reason, and the
     * share stays ACTIVE.
     * </pre>
     */
    public void revokeShare(leadgate.v1.RevokeShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.RevokeShareResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRevokeShareMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Revokes the shares of a user, of a lead, or of a user and a lead, according to the ledger. Each share has its own result,
     * which is sent as soon as LeadSquared has accepted the request.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN).
     * </pre>
     */
    public void revokeShares(leadgate.v1.RevokeSharesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.RevokeSharesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getRevokeSharesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Extends access without a gap: makes a new share, and revokes the old one when the new one is ACTIVE. A lead is shared
     * through a new activity of the same type, or of the default type if the old activity was given by its id. An opportunity
     * is shared again, and the old share is then EXPIRED.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE).
     * </pre>
     */
    public void extendShare(leadgate.v1.ExtendShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ExtendShareResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getExtendShareMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Resolves a share that is FAILED or UNCERTAIN: repeats the failed or uncertain step. If LeadSquared has accepted a
     * request, its status is queried again.
     * If access may have been granted already, the share is first revoked, and requested again only after the revoke is
     * processed, so that the same access is not granted twice. If the revoke fails, the share is UNCERTAIN again. In two
     * cases no revoke is sent: if the setting `tenants.NAME.sharing.may_ask_again` is true, and for an extension of an
     * opportunity, because a revoke would also end the extended share. A revoke is sent
     * `tenants.NAME.sharing.settle_after` (default 30 s) after a lost request, so that LeadSquared does not receive the
     * revoke before that request. Use a timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * RevokeShare also resolves an UNCERTAIN share.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_RETRYABLE).
     * </pre>
     */
    public void retryShare(leadgate.v1.RetryShareRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.RetryShareResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRetryShareMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the number of leads that are shared with a user, according to the ledger.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (USER_NOT_FOUND).
     * </pre>
     */
    public void getUserShareUsage(leadgate.v1.GetUserShareUsageRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetUserShareUsageResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetUserShareUsageMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the status of one of LeadSquared's share requests. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public void getShareRequestStatus(leadgate.v1.GetShareRequestStatusRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetShareRequestStatusResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetShareRequestStatusMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service ShareService.
   * <pre>
   * Grants access to sales users for a limited time, follows LeadSquared's asynchronous requests, and revokes access.
   * LeadSquared has no list of shares. leadgate keeps a ledger of the shares that were made through leadgate. Shares by
   * automations or by other programs are not in it. Every list states its source (`source`).
   * Any rpc may fail with the errors that LeadService lists for all rpcs. Mutations of shares may also fail with
   * FAILED_PRECONDITION (UPSTREAM_FEATURE_DISABLED, NOT_A_SALES_USER, SHARE_LIMIT_REACHED).
   * OUTCOME_UNKNOWN means that the share is UNCERTAIN. The metadata of ErrorInfo has its `share_id`. GetShare returns the
   * share, and RetryShare or RevokeShare resolves it. The same request_id would only return the same share, so
   * `retry_same_request_id` is "false" in all errors with a share_id.
   * </pre>
   */
  public static final class ShareServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<ShareServiceBlockingStub> {
    private ShareServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ShareServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ShareServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Shares a lead with a user. leadgate looks up the lead and the user, posts the activity that LeadSquared requires as
     * context, requests the share, and follows the request.
     * Once the share is in the ledger, the deadline ends only the wait: the share continues, and the response has its current
     * state. If an error has no share_id in its metadata, no share was created. After the caller's own deadline, send the
     * same request with the same request_id again: it returns the current state of the share. A state that the share has
     * passed counts as reached. A share that is REVOKING, REVOKED or EXPIRED is returned at once, for any value of wait_for.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND, USER_NOT_FOUND, ACTIVITY_NOT_FOUND),
     * ALREADY_EXISTS (SHARE_EXISTS, with the existing share as ResourceInfo), ABORTED (OUTCOME_UNKNOWN: the share is
     * UNCERTAIN).
     * </pre>
     */
    public leadgate.v1.ShareLeadResponse shareLead(leadgate.v1.ShareLeadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getShareLeadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Shares an opportunity with a user. No activity is required.
     * Errors: as ShareLead, and NOT_FOUND (OPPORTUNITY_NOT_FOUND).
     * </pre>
     */
    public leadgate.v1.ShareOpportunityResponse shareOpportunity(leadgate.v1.ShareOpportunityRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getShareOpportunityMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a share from the ledger, with its history.
     * Errors: NOT_FOUND (SHARE_NOT_FOUND).
     * </pre>
     */
    public leadgate.v1.GetShareResponse getShare(leadgate.v1.GetShareRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetShareMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists shares from the ledger, newest first, in pages.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public leadgate.v1.ListSharesResponse listShares(leadgate.v1.ListSharesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListSharesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the current state of a share and each change, until the share is EXPIRED, FAILED or REVOKED. If two
     * changes follow quickly, the first one may be left out. Without a deadline, the stream ends with the share, but after a
     * day at most.
     * Errors: NOT_FOUND (SHARE_NOT_FOUND), UNAVAILABLE (SHUTTING_DOWN: watch again, on another replica or later).
     * </pre>
     */
    public java.util.Iterator<leadgate.v1.WatchShareResponse> watchShare(
        leadgate.v1.WatchShareRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchShareMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Revokes access, by share, or by lead, user and activity.
     * * A share that was not requested from LeadSquared yet is REVOKED at once.
     * * A share that is REVOKED already stays REVOKED.
     * * A share that LeadSquared does not have, according to its response, is REVOKED.
     * * The shares that extend the share (ExtendShare) are revoked with it.
     * * LeadSquared does not distinguish the shares of an opportunity with one user: all of them are revoked.
     * * An UNCERTAIN share is revoked `tenants.NAME.sharing.settle_after` (default 30 s) after the lost request. Use a
     *   timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE: the share
     * is EXPIRED or FAILED), ABORTED (OUTCOME_UNKNOWN). If LeadSquared rejects the revoke, the error has its reason, and the
     * share stays ACTIVE.
     * </pre>
     */
    public leadgate.v1.RevokeShareResponse revokeShare(leadgate.v1.RevokeShareRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRevokeShareMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Revokes the shares of a user, of a lead, or of a user and a lead, according to the ledger. Each share has its own result,
     * which is sent as soon as LeadSquared has accepted the request.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN).
     * </pre>
     */
    public java.util.Iterator<leadgate.v1.RevokeSharesResponse> revokeShares(
        leadgate.v1.RevokeSharesRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getRevokeSharesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Extends access without a gap: makes a new share, and revokes the old one when the new one is ACTIVE. A lead is shared
     * through a new activity of the same type, or of the default type if the old activity was given by its id. An opportunity
     * is shared again, and the old share is then EXPIRED.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE).
     * </pre>
     */
    public leadgate.v1.ExtendShareResponse extendShare(leadgate.v1.ExtendShareRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getExtendShareMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Resolves a share that is FAILED or UNCERTAIN: repeats the failed or uncertain step. If LeadSquared has accepted a
     * request, its status is queried again.
     * If access may have been granted already, the share is first revoked, and requested again only after the revoke is
     * processed, so that the same access is not granted twice. If the revoke fails, the share is UNCERTAIN again. In two
     * cases no revoke is sent: if the setting `tenants.NAME.sharing.may_ask_again` is true, and for an extension of an
     * opportunity, because a revoke would also end the extended share. A revoke is sent
     * `tenants.NAME.sharing.settle_after` (default 30 s) after a lost request, so that LeadSquared does not receive the
     * revoke before that request. Use a timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * RevokeShare also resolves an UNCERTAIN share.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_RETRYABLE).
     * </pre>
     */
    public leadgate.v1.RetryShareResponse retryShare(leadgate.v1.RetryShareRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRetryShareMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the number of leads that are shared with a user, according to the ledger.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (USER_NOT_FOUND).
     * </pre>
     */
    public leadgate.v1.GetUserShareUsageResponse getUserShareUsage(leadgate.v1.GetUserShareUsageRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetUserShareUsageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the status of one of LeadSquared's share requests. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public leadgate.v1.GetShareRequestStatusResponse getShareRequestStatus(leadgate.v1.GetShareRequestStatusRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetShareRequestStatusMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service ShareService.
   * <pre>
   * Grants access to sales users for a limited time, follows LeadSquared's asynchronous requests, and revokes access.
   * LeadSquared has no list of shares. leadgate keeps a ledger of the shares that were made through leadgate. Shares by
   * automations or by other programs are not in it. Every list states its source (`source`).
   * Any rpc may fail with the errors that LeadService lists for all rpcs. Mutations of shares may also fail with
   * FAILED_PRECONDITION (UPSTREAM_FEATURE_DISABLED, NOT_A_SALES_USER, SHARE_LIMIT_REACHED).
   * OUTCOME_UNKNOWN means that the share is UNCERTAIN. The metadata of ErrorInfo has its `share_id`. GetShare returns the
   * share, and RetryShare or RevokeShare resolves it. The same request_id would only return the same share, so
   * `retry_same_request_id` is "false" in all errors with a share_id.
   * </pre>
   */
  public static final class ShareServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<ShareServiceFutureStub> {
    private ShareServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ShareServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ShareServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Shares a lead with a user. leadgate looks up the lead and the user, posts the activity that LeadSquared requires as
     * context, requests the share, and follows the request.
     * Once the share is in the ledger, the deadline ends only the wait: the share continues, and the response has its current
     * state. If an error has no share_id in its metadata, no share was created. After the caller's own deadline, send the
     * same request with the same request_id again: it returns the current state of the share. A state that the share has
     * passed counts as reached. A share that is REVOKING, REVOKED or EXPIRED is returned at once, for any value of wait_for.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND, USER_NOT_FOUND, ACTIVITY_NOT_FOUND),
     * ALREADY_EXISTS (SHARE_EXISTS, with the existing share as ResourceInfo), ABORTED (OUTCOME_UNKNOWN: the share is
     * UNCERTAIN).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ShareLeadResponse> shareLead(
        leadgate.v1.ShareLeadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getShareLeadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Shares an opportunity with a user. No activity is required.
     * Errors: as ShareLead, and NOT_FOUND (OPPORTUNITY_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ShareOpportunityResponse> shareOpportunity(
        leadgate.v1.ShareOpportunityRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getShareOpportunityMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a share from the ledger, with its history.
     * Errors: NOT_FOUND (SHARE_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.GetShareResponse> getShare(
        leadgate.v1.GetShareRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetShareMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists shares from the ledger, newest first, in pages.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ListSharesResponse> listShares(
        leadgate.v1.ListSharesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListSharesMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Revokes access, by share, or by lead, user and activity.
     * * A share that was not requested from LeadSquared yet is REVOKED at once.
     * * A share that is REVOKED already stays REVOKED.
     * * A share that LeadSquared does not have, according to its response, is REVOKED.
     * * The shares that extend the share (ExtendShare) are revoked with it.
     * * LeadSquared does not distinguish the shares of an opportunity with one user: all of them are revoked.
     * * An UNCERTAIN share is revoked `tenants.NAME.sharing.settle_after` (default 30 s) after the lost request. Use a
     *   timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE: the share
     * is EXPIRED or FAILED), ABORTED (OUTCOME_UNKNOWN). If LeadSquared rejects the revoke, the error has its reason, and the
     * share stays ACTIVE.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.RevokeShareResponse> revokeShare(
        leadgate.v1.RevokeShareRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRevokeShareMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Extends access without a gap: makes a new share, and revokes the old one when the new one is ACTIVE. A lead is shared
     * through a new activity of the same type, or of the default type if the old activity was given by its id. An opportunity
     * is shared again, and the old share is then EXPIRED.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_ACTIVE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ExtendShareResponse> extendShare(
        leadgate.v1.ExtendShareRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getExtendShareMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Resolves a share that is FAILED or UNCERTAIN: repeats the failed or uncertain step. If LeadSquared has accepted a
     * request, its status is queried again.
     * If access may have been granted already, the share is first revoked, and requested again only after the revoke is
     * processed, so that the same access is not granted twice. If the revoke fails, the share is UNCERTAIN again. In two
     * cases no revoke is sent: if the setting `tenants.NAME.sharing.may_ask_again` is true, and for an extension of an
     * opportunity, because a revoke would also end the extended share. A revoke is sent
     * `tenants.NAME.sharing.settle_after` (default 30 s) after a lost request, so that LeadSquared does not receive the
     * revoke before that request. Use a timeout of a minute, or WAIT_FOR_NONE and WatchShare.
     * RevokeShare also resolves an UNCERTAIN share.
     * Errors: as ShareLead, and NOT_FOUND (SHARE_NOT_FOUND), FAILED_PRECONDITION (SHARE_NOT_RETRYABLE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.RetryShareResponse> retryShare(
        leadgate.v1.RetryShareRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRetryShareMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the number of leads that are shared with a user, according to the ledger.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (USER_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.GetUserShareUsageResponse> getUserShareUsage(
        leadgate.v1.GetUserShareUsageRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetUserShareUsageMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the status of one of LeadSquared's share requests. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.GetShareRequestStatusResponse> getShareRequestStatus(
        leadgate.v1.GetShareRequestStatusRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetShareRequestStatusMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_SHARE_LEAD = 0;
  private static final int METHODID_SHARE_OPPORTUNITY = 1;
  private static final int METHODID_GET_SHARE = 2;
  private static final int METHODID_LIST_SHARES = 3;
  private static final int METHODID_WATCH_SHARE = 4;
  private static final int METHODID_REVOKE_SHARE = 5;
  private static final int METHODID_REVOKE_SHARES = 6;
  private static final int METHODID_EXTEND_SHARE = 7;
  private static final int METHODID_RETRY_SHARE = 8;
  private static final int METHODID_GET_USER_SHARE_USAGE = 9;
  private static final int METHODID_GET_SHARE_REQUEST_STATUS = 10;

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
        case METHODID_SHARE_LEAD:
          serviceImpl.shareLead((leadgate.v1.ShareLeadRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ShareLeadResponse>) responseObserver);
          break;
        case METHODID_SHARE_OPPORTUNITY:
          serviceImpl.shareOpportunity((leadgate.v1.ShareOpportunityRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ShareOpportunityResponse>) responseObserver);
          break;
        case METHODID_GET_SHARE:
          serviceImpl.getShare((leadgate.v1.GetShareRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.GetShareResponse>) responseObserver);
          break;
        case METHODID_LIST_SHARES:
          serviceImpl.listShares((leadgate.v1.ListSharesRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ListSharesResponse>) responseObserver);
          break;
        case METHODID_WATCH_SHARE:
          serviceImpl.watchShare((leadgate.v1.WatchShareRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.WatchShareResponse>) responseObserver);
          break;
        case METHODID_REVOKE_SHARE:
          serviceImpl.revokeShare((leadgate.v1.RevokeShareRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.RevokeShareResponse>) responseObserver);
          break;
        case METHODID_REVOKE_SHARES:
          serviceImpl.revokeShares((leadgate.v1.RevokeSharesRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.RevokeSharesResponse>) responseObserver);
          break;
        case METHODID_EXTEND_SHARE:
          serviceImpl.extendShare((leadgate.v1.ExtendShareRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ExtendShareResponse>) responseObserver);
          break;
        case METHODID_RETRY_SHARE:
          serviceImpl.retryShare((leadgate.v1.RetryShareRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.RetryShareResponse>) responseObserver);
          break;
        case METHODID_GET_USER_SHARE_USAGE:
          serviceImpl.getUserShareUsage((leadgate.v1.GetUserShareUsageRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.GetUserShareUsageResponse>) responseObserver);
          break;
        case METHODID_GET_SHARE_REQUEST_STATUS:
          serviceImpl.getShareRequestStatus((leadgate.v1.GetShareRequestStatusRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.GetShareRequestStatusResponse>) responseObserver);
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
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getShareLeadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ShareLeadRequest,
              leadgate.v1.ShareLeadResponse>(
                service, METHODID_SHARE_LEAD)))
        .addMethod(
          getShareOpportunityMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ShareOpportunityRequest,
              leadgate.v1.ShareOpportunityResponse>(
                service, METHODID_SHARE_OPPORTUNITY)))
        .addMethod(
          getGetShareMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.GetShareRequest,
              leadgate.v1.GetShareResponse>(
                service, METHODID_GET_SHARE)))
        .addMethod(
          getListSharesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ListSharesRequest,
              leadgate.v1.ListSharesResponse>(
                service, METHODID_LIST_SHARES)))
        .addMethod(
          getWatchShareMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              leadgate.v1.WatchShareRequest,
              leadgate.v1.WatchShareResponse>(
                service, METHODID_WATCH_SHARE)))
        .addMethod(
          getRevokeShareMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.RevokeShareRequest,
              leadgate.v1.RevokeShareResponse>(
                service, METHODID_REVOKE_SHARE)))
        .addMethod(
          getRevokeSharesMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              leadgate.v1.RevokeSharesRequest,
              leadgate.v1.RevokeSharesResponse>(
                service, METHODID_REVOKE_SHARES)))
        .addMethod(
          getExtendShareMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ExtendShareRequest,
              leadgate.v1.ExtendShareResponse>(
                service, METHODID_EXTEND_SHARE)))
        .addMethod(
          getRetryShareMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.RetryShareRequest,
              leadgate.v1.RetryShareResponse>(
                service, METHODID_RETRY_SHARE)))
        .addMethod(
          getGetUserShareUsageMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.GetUserShareUsageRequest,
              leadgate.v1.GetUserShareUsageResponse>(
                service, METHODID_GET_USER_SHARE_USAGE)))
        .addMethod(
          getGetShareRequestStatusMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.GetShareRequestStatusRequest,
              leadgate.v1.GetShareRequestStatusResponse>(
                service, METHODID_GET_SHARE_REQUEST_STATUS)))
        .build();
  }

  private static abstract class ShareServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    ShareServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return leadgate.v1.ShareProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("ShareService");
    }
  }

  private static final class ShareServiceFileDescriptorSupplier
      extends ShareServiceBaseDescriptorSupplier {
    ShareServiceFileDescriptorSupplier() {}
  }

  private static final class ShareServiceMethodDescriptorSupplier
      extends ShareServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    ShareServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (ShareServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new ShareServiceFileDescriptorSupplier())
              .addMethod(getShareLeadMethod())
              .addMethod(getShareOpportunityMethod())
              .addMethod(getGetShareMethod())
              .addMethod(getListSharesMethod())
              .addMethod(getWatchShareMethod())
              .addMethod(getRevokeShareMethod())
              .addMethod(getRevokeSharesMethod())
              .addMethod(getExtendShareMethod())
              .addMethod(getRetryShareMethod())
              .addMethod(getGetUserShareUsageMethod())
              .addMethod(getGetShareRequestStatusMethod())
              .build();
        }
      }
    }
    return result;
  }
}
