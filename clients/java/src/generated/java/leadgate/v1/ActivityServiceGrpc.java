package leadgate.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Activities of one LeadSquared account.
 * Any rpc may fail with the errors that LeadService lists for all rpcs.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class ActivityServiceGrpc {

  private ActivityServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "leadgate.v1.ActivityService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<leadgate.v1.PostActivityRequest,
      leadgate.v1.PostActivityResponse> getPostActivityMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "PostActivity",
      requestType = leadgate.v1.PostActivityRequest.class,
      responseType = leadgate.v1.PostActivityResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.PostActivityRequest,
      leadgate.v1.PostActivityResponse> getPostActivityMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.PostActivityRequest, leadgate.v1.PostActivityResponse> getPostActivityMethod;
    if ((getPostActivityMethod = ActivityServiceGrpc.getPostActivityMethod) == null) {
      synchronized (ActivityServiceGrpc.class) {
        if ((getPostActivityMethod = ActivityServiceGrpc.getPostActivityMethod) == null) {
          ActivityServiceGrpc.getPostActivityMethod = getPostActivityMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.PostActivityRequest, leadgate.v1.PostActivityResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "PostActivity"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.PostActivityRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.PostActivityResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ActivityServiceMethodDescriptorSupplier("PostActivity"))
              .build();
        }
      }
    }
    return getPostActivityMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.UpdateActivityRequest,
      leadgate.v1.UpdateActivityResponse> getUpdateActivityMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UpdateActivity",
      requestType = leadgate.v1.UpdateActivityRequest.class,
      responseType = leadgate.v1.UpdateActivityResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.UpdateActivityRequest,
      leadgate.v1.UpdateActivityResponse> getUpdateActivityMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.UpdateActivityRequest, leadgate.v1.UpdateActivityResponse> getUpdateActivityMethod;
    if ((getUpdateActivityMethod = ActivityServiceGrpc.getUpdateActivityMethod) == null) {
      synchronized (ActivityServiceGrpc.class) {
        if ((getUpdateActivityMethod = ActivityServiceGrpc.getUpdateActivityMethod) == null) {
          ActivityServiceGrpc.getUpdateActivityMethod = getUpdateActivityMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.UpdateActivityRequest, leadgate.v1.UpdateActivityResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UpdateActivity"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.UpdateActivityRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.UpdateActivityResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ActivityServiceMethodDescriptorSupplier("UpdateActivity"))
              .build();
        }
      }
    }
    return getUpdateActivityMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.GetActivityRequest,
      leadgate.v1.GetActivityResponse> getGetActivityMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetActivity",
      requestType = leadgate.v1.GetActivityRequest.class,
      responseType = leadgate.v1.GetActivityResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.GetActivityRequest,
      leadgate.v1.GetActivityResponse> getGetActivityMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.GetActivityRequest, leadgate.v1.GetActivityResponse> getGetActivityMethod;
    if ((getGetActivityMethod = ActivityServiceGrpc.getGetActivityMethod) == null) {
      synchronized (ActivityServiceGrpc.class) {
        if ((getGetActivityMethod = ActivityServiceGrpc.getGetActivityMethod) == null) {
          ActivityServiceGrpc.getGetActivityMethod = getGetActivityMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.GetActivityRequest, leadgate.v1.GetActivityResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetActivity"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetActivityRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetActivityResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ActivityServiceMethodDescriptorSupplier("GetActivity"))
              .build();
        }
      }
    }
    return getGetActivityMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ListLeadActivitiesRequest,
      leadgate.v1.ListLeadActivitiesResponse> getListLeadActivitiesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListLeadActivities",
      requestType = leadgate.v1.ListLeadActivitiesRequest.class,
      responseType = leadgate.v1.ListLeadActivitiesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ListLeadActivitiesRequest,
      leadgate.v1.ListLeadActivitiesResponse> getListLeadActivitiesMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ListLeadActivitiesRequest, leadgate.v1.ListLeadActivitiesResponse> getListLeadActivitiesMethod;
    if ((getListLeadActivitiesMethod = ActivityServiceGrpc.getListLeadActivitiesMethod) == null) {
      synchronized (ActivityServiceGrpc.class) {
        if ((getListLeadActivitiesMethod = ActivityServiceGrpc.getListLeadActivitiesMethod) == null) {
          ActivityServiceGrpc.getListLeadActivitiesMethod = getListLeadActivitiesMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ListLeadActivitiesRequest, leadgate.v1.ListLeadActivitiesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListLeadActivities"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListLeadActivitiesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListLeadActivitiesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ActivityServiceMethodDescriptorSupplier("ListLeadActivities"))
              .build();
        }
      }
    }
    return getListLeadActivitiesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ListActivitiesRequest,
      leadgate.v1.ListActivitiesResponse> getListActivitiesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListActivities",
      requestType = leadgate.v1.ListActivitiesRequest.class,
      responseType = leadgate.v1.ListActivitiesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ListActivitiesRequest,
      leadgate.v1.ListActivitiesResponse> getListActivitiesMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ListActivitiesRequest, leadgate.v1.ListActivitiesResponse> getListActivitiesMethod;
    if ((getListActivitiesMethod = ActivityServiceGrpc.getListActivitiesMethod) == null) {
      synchronized (ActivityServiceGrpc.class) {
        if ((getListActivitiesMethod = ActivityServiceGrpc.getListActivitiesMethod) == null) {
          ActivityServiceGrpc.getListActivitiesMethod = getListActivitiesMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ListActivitiesRequest, leadgate.v1.ListActivitiesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListActivities"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListActivitiesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListActivitiesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ActivityServiceMethodDescriptorSupplier("ListActivities"))
              .build();
        }
      }
    }
    return getListActivitiesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.ListActivityTypesRequest,
      leadgate.v1.ListActivityTypesResponse> getListActivityTypesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListActivityTypes",
      requestType = leadgate.v1.ListActivityTypesRequest.class,
      responseType = leadgate.v1.ListActivityTypesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.ListActivityTypesRequest,
      leadgate.v1.ListActivityTypesResponse> getListActivityTypesMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.ListActivityTypesRequest, leadgate.v1.ListActivityTypesResponse> getListActivityTypesMethod;
    if ((getListActivityTypesMethod = ActivityServiceGrpc.getListActivityTypesMethod) == null) {
      synchronized (ActivityServiceGrpc.class) {
        if ((getListActivityTypesMethod = ActivityServiceGrpc.getListActivityTypesMethod) == null) {
          ActivityServiceGrpc.getListActivityTypesMethod = getListActivityTypesMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.ListActivityTypesRequest, leadgate.v1.ListActivityTypesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListActivityTypes"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListActivityTypesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.ListActivityTypesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ActivityServiceMethodDescriptorSupplier("ListActivityTypes"))
              .build();
        }
      }
    }
    return getListActivityTypesMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static ActivityServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ActivityServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ActivityServiceStub>() {
        @java.lang.Override
        public ActivityServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ActivityServiceStub(channel, callOptions);
        }
      };
    return ActivityServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static ActivityServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ActivityServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ActivityServiceBlockingStub>() {
        @java.lang.Override
        public ActivityServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ActivityServiceBlockingStub(channel, callOptions);
        }
      };
    return ActivityServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static ActivityServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ActivityServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ActivityServiceFutureStub>() {
        @java.lang.Override
        public ActivityServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ActivityServiceFutureStub(channel, callOptions);
        }
      };
    return ActivityServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Activities of one LeadSquared account.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Posts an activity on a lead. One upstream call. If its response is lost, leadgate looks for the activity by type, note,
     * owner, fields and time. If it finds none, or more than one, the rpc fails with OUTCOME_UNKNOWN, and the same request_id
     * never posts the activity again.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ABORTED (OUTCOME_UNKNOWN: see LeadService).
     * </pre>
     */
    default void postActivity(leadgate.v1.PostActivityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.PostActivityResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getPostActivityMethod(), responseObserver);
    }

    /**
     * <pre>
     * Updates an activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    default void updateActivity(leadgate.v1.UpdateActivityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.UpdateActivityResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUpdateActivityMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads one activity. LeadSquared does not return the lead of the activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    default void getActivity(leadgate.v1.GetActivityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetActivityResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetActivityMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the activities of a lead, in LeadSquared's order, in pages. One upstream call per page. A lead that does not
     * exist has no activities.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    default void listLeadActivities(leadgate.v1.ListLeadActivitiesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListLeadActivitiesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListLeadActivitiesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the activities of all leads that were modified in a time range, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    default void listActivities(leadgate.v1.ListActivitiesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListActivitiesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListActivitiesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the activity types of the account. No upstream call while they are cached.
     * Errors: only those of all rpcs.
     * </pre>
     */
    default void listActivityTypes(leadgate.v1.ListActivityTypesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListActivityTypesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListActivityTypesMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service ActivityService.
   * <pre>
   * Activities of one LeadSquared account.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static abstract class ActivityServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return ActivityServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service ActivityService.
   * <pre>
   * Activities of one LeadSquared account.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static final class ActivityServiceStub
      extends io.grpc.stub.AbstractAsyncStub<ActivityServiceStub> {
    private ActivityServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ActivityServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ActivityServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Posts an activity on a lead. One upstream call. If its response is lost, leadgate looks for the activity by type, note,
     * owner, fields and time. If it finds none, or more than one, the rpc fails with OUTCOME_UNKNOWN, and the same request_id
     * never posts the activity again.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ABORTED (OUTCOME_UNKNOWN: see LeadService).
     * </pre>
     */
    public void postActivity(leadgate.v1.PostActivityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.PostActivityResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getPostActivityMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Updates an activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    public void updateActivity(leadgate.v1.UpdateActivityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.UpdateActivityResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUpdateActivityMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads one activity. LeadSquared does not return the lead of the activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    public void getActivity(leadgate.v1.GetActivityRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetActivityResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetActivityMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the activities of a lead, in LeadSquared's order, in pages. One upstream call per page. A lead that does not
     * exist has no activities.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public void listLeadActivities(leadgate.v1.ListLeadActivitiesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListLeadActivitiesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListLeadActivitiesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the activities of all leads that were modified in a time range, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public void listActivities(leadgate.v1.ListActivitiesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListActivitiesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListActivitiesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the activity types of the account. No upstream call while they are cached.
     * Errors: only those of all rpcs.
     * </pre>
     */
    public void listActivityTypes(leadgate.v1.ListActivityTypesRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.ListActivityTypesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListActivityTypesMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service ActivityService.
   * <pre>
   * Activities of one LeadSquared account.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static final class ActivityServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<ActivityServiceBlockingStub> {
    private ActivityServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ActivityServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ActivityServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Posts an activity on a lead. One upstream call. If its response is lost, leadgate looks for the activity by type, note,
     * owner, fields and time. If it finds none, or more than one, the rpc fails with OUTCOME_UNKNOWN, and the same request_id
     * never posts the activity again.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ABORTED (OUTCOME_UNKNOWN: see LeadService).
     * </pre>
     */
    public leadgate.v1.PostActivityResponse postActivity(leadgate.v1.PostActivityRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getPostActivityMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Updates an activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    public leadgate.v1.UpdateActivityResponse updateActivity(leadgate.v1.UpdateActivityRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUpdateActivityMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads one activity. LeadSquared does not return the lead of the activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    public leadgate.v1.GetActivityResponse getActivity(leadgate.v1.GetActivityRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetActivityMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the activities of a lead, in LeadSquared's order, in pages. One upstream call per page. A lead that does not
     * exist has no activities.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public leadgate.v1.ListLeadActivitiesResponse listLeadActivities(leadgate.v1.ListLeadActivitiesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListLeadActivitiesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the activities of all leads that were modified in a time range, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public leadgate.v1.ListActivitiesResponse listActivities(leadgate.v1.ListActivitiesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListActivitiesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the activity types of the account. No upstream call while they are cached.
     * Errors: only those of all rpcs.
     * </pre>
     */
    public leadgate.v1.ListActivityTypesResponse listActivityTypes(leadgate.v1.ListActivityTypesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListActivityTypesMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service ActivityService.
   * <pre>
   * Activities of one LeadSquared account.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static final class ActivityServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<ActivityServiceFutureStub> {
    private ActivityServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ActivityServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ActivityServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Posts an activity on a lead. One upstream call. If its response is lost, leadgate looks for the activity by type, note,
     * owner, fields and time. If it finds none, or more than one, the rpc fails with OUTCOME_UNKNOWN, and the same request_id
     * never posts the activity again.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (LEAD_NOT_FOUND), ABORTED (OUTCOME_UNKNOWN: see LeadService).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.PostActivityResponse> postActivity(
        leadgate.v1.PostActivityRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getPostActivityMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Updates an activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.UpdateActivityResponse> updateActivity(
        leadgate.v1.UpdateActivityRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUpdateActivityMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads one activity. LeadSquared does not return the lead of the activity. One upstream call.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), NOT_FOUND (ACTIVITY_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.GetActivityResponse> getActivity(
        leadgate.v1.GetActivityRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetActivityMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the activities of a lead, in LeadSquared's order, in pages. One upstream call per page. A lead that does not
     * exist has no activities.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ListLeadActivitiesResponse> listLeadActivities(
        leadgate.v1.ListLeadActivitiesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListLeadActivitiesMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the activities of all leads that were modified in a time range, in pages. One upstream call per page.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ListActivitiesResponse> listActivities(
        leadgate.v1.ListActivitiesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListActivitiesMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the activity types of the account. No upstream call while they are cached.
     * Errors: only those of all rpcs.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.ListActivityTypesResponse> listActivityTypes(
        leadgate.v1.ListActivityTypesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListActivityTypesMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_POST_ACTIVITY = 0;
  private static final int METHODID_UPDATE_ACTIVITY = 1;
  private static final int METHODID_GET_ACTIVITY = 2;
  private static final int METHODID_LIST_LEAD_ACTIVITIES = 3;
  private static final int METHODID_LIST_ACTIVITIES = 4;
  private static final int METHODID_LIST_ACTIVITY_TYPES = 5;

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
        case METHODID_POST_ACTIVITY:
          serviceImpl.postActivity((leadgate.v1.PostActivityRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.PostActivityResponse>) responseObserver);
          break;
        case METHODID_UPDATE_ACTIVITY:
          serviceImpl.updateActivity((leadgate.v1.UpdateActivityRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.UpdateActivityResponse>) responseObserver);
          break;
        case METHODID_GET_ACTIVITY:
          serviceImpl.getActivity((leadgate.v1.GetActivityRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.GetActivityResponse>) responseObserver);
          break;
        case METHODID_LIST_LEAD_ACTIVITIES:
          serviceImpl.listLeadActivities((leadgate.v1.ListLeadActivitiesRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ListLeadActivitiesResponse>) responseObserver);
          break;
        case METHODID_LIST_ACTIVITIES:
          serviceImpl.listActivities((leadgate.v1.ListActivitiesRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ListActivitiesResponse>) responseObserver);
          break;
        case METHODID_LIST_ACTIVITY_TYPES:
          serviceImpl.listActivityTypes((leadgate.v1.ListActivityTypesRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.ListActivityTypesResponse>) responseObserver);
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
          getPostActivityMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.PostActivityRequest,
              leadgate.v1.PostActivityResponse>(
                service, METHODID_POST_ACTIVITY)))
        .addMethod(
          getUpdateActivityMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.UpdateActivityRequest,
              leadgate.v1.UpdateActivityResponse>(
                service, METHODID_UPDATE_ACTIVITY)))
        .addMethod(
          getGetActivityMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.GetActivityRequest,
              leadgate.v1.GetActivityResponse>(
                service, METHODID_GET_ACTIVITY)))
        .addMethod(
          getListLeadActivitiesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ListLeadActivitiesRequest,
              leadgate.v1.ListLeadActivitiesResponse>(
                service, METHODID_LIST_LEAD_ACTIVITIES)))
        .addMethod(
          getListActivitiesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ListActivitiesRequest,
              leadgate.v1.ListActivitiesResponse>(
                service, METHODID_LIST_ACTIVITIES)))
        .addMethod(
          getListActivityTypesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.ListActivityTypesRequest,
              leadgate.v1.ListActivityTypesResponse>(
                service, METHODID_LIST_ACTIVITY_TYPES)))
        .build();
  }

  private static abstract class ActivityServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    ActivityServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return leadgate.v1.ActivityProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("ActivityService");
    }
  }

  private static final class ActivityServiceFileDescriptorSupplier
      extends ActivityServiceBaseDescriptorSupplier {
    ActivityServiceFileDescriptorSupplier() {}
  }

  private static final class ActivityServiceMethodDescriptorSupplier
      extends ActivityServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    ActivityServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (ActivityServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new ActivityServiceFileDescriptorSupplier())
              .addMethod(getPostActivityMethod())
              .addMethod(getUpdateActivityMethod())
              .addMethod(getGetActivityMethod())
              .addMethod(getListLeadActivitiesMethod())
              .addMethod(getListActivitiesMethod())
              .addMethod(getListActivityTypesMethod())
              .build();
        }
      }
    }
    return result;
  }
}
