package leadgate.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Any endpoint of LeadSquared's REST API, within the quota and the permissions of the caller.
 * Any rpc may fail with the errors that LeadService lists for all rpcs.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class RestServiceGrpc {

  private RestServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "leadgate.v1.RestService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<leadgate.v1.CallRequest,
      leadgate.v1.CallResponse> getCallMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Call",
      requestType = leadgate.v1.CallRequest.class,
      responseType = leadgate.v1.CallResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.CallRequest,
      leadgate.v1.CallResponse> getCallMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.CallRequest, leadgate.v1.CallResponse> getCallMethod;
    if ((getCallMethod = RestServiceGrpc.getCallMethod) == null) {
      synchronized (RestServiceGrpc.class) {
        if ((getCallMethod = RestServiceGrpc.getCallMethod) == null) {
          RestServiceGrpc.getCallMethod = getCallMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.CallRequest, leadgate.v1.CallResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Call"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.CallRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.CallResponse.getDefaultInstance()))
              .setSchemaDescriptor(new RestServiceMethodDescriptorSupplier("Call"))
              .build();
        }
      }
    }
    return getCallMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static RestServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RestServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RestServiceStub>() {
        @java.lang.Override
        public RestServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RestServiceStub(channel, callOptions);
        }
      };
    return RestServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static RestServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RestServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RestServiceBlockingStub>() {
        @java.lang.Override
        public RestServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RestServiceBlockingStub(channel, callOptions);
        }
      };
    return RestServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static RestServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RestServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RestServiceFutureStub>() {
        @java.lang.Override
        public RestServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RestServiceFutureStub(channel, callOptions);
        }
      };
    return RestServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Any endpoint of LeadSquared's REST API, within the quota and the permissions of the caller.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Makes one call, and returns LeadSquared's response as it is. Every complete response is OK, also one with an error of
     * LeadSquared, except for a rate limit error and HTTP 401. A known read may be sent again, any other call is sent once. A caller
     * with `callers.NAME.allow` needs a rule for this rpc and one for the endpoint, such as
     * "REST:LeadManagement.svc/Leads.Get". A caller with `deny_fields` or `hide_fields` may not use it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED), ABORTED (OUTCOME_UNKNOWN;
     * a repetition with the same request_id is not looked up).
     * </pre>
     */
    default void call(leadgate.v1.CallRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.CallResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCallMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service RestService.
   * <pre>
   * Any endpoint of LeadSquared's REST API, within the quota and the permissions of the caller.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static abstract class RestServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return RestServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service RestService.
   * <pre>
   * Any endpoint of LeadSquared's REST API, within the quota and the permissions of the caller.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static final class RestServiceStub
      extends io.grpc.stub.AbstractAsyncStub<RestServiceStub> {
    private RestServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RestServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RestServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Makes one call, and returns LeadSquared's response as it is. Every complete response is OK, also one with an error of
     * LeadSquared, except for a rate limit error and HTTP 401. A known read may be sent again, any other call is sent once. A caller
     * with `callers.NAME.allow` needs a rule for this rpc and one for the endpoint, such as
     * "REST:LeadManagement.svc/Leads.Get". A caller with `deny_fields` or `hide_fields` may not use it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED), ABORTED (OUTCOME_UNKNOWN;
     * a repetition with the same request_id is not looked up).
     * </pre>
     */
    public void call(leadgate.v1.CallRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.CallResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCallMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service RestService.
   * <pre>
   * Any endpoint of LeadSquared's REST API, within the quota and the permissions of the caller.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static final class RestServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<RestServiceBlockingStub> {
    private RestServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RestServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RestServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Makes one call, and returns LeadSquared's response as it is. Every complete response is OK, also one with an error of
     * LeadSquared, except for a rate limit error and HTTP 401. A known read may be sent again, any other call is sent once. A caller
     * with `callers.NAME.allow` needs a rule for this rpc and one for the endpoint, such as
     * "REST:LeadManagement.svc/Leads.Get". A caller with `deny_fields` or `hide_fields` may not use it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED), ABORTED (OUTCOME_UNKNOWN;
     * a repetition with the same request_id is not looked up).
     * </pre>
     */
    public leadgate.v1.CallResponse call(leadgate.v1.CallRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCallMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service RestService.
   * <pre>
   * Any endpoint of LeadSquared's REST API, within the quota and the permissions of the caller.
   * Any rpc may fail with the errors that LeadService lists for all rpcs.
   * </pre>
   */
  public static final class RestServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<RestServiceFutureStub> {
    private RestServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RestServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RestServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Makes one call, and returns LeadSquared's response as it is. Every complete response is OK, also one with an error of
     * LeadSquared, except for a rate limit error and HTTP 401. A known read may be sent again, any other call is sent once. A caller
     * with `callers.NAME.allow` needs a rule for this rpc and one for the endpoint, such as
     * "REST:LeadManagement.svc/Leads.Get". A caller with `deny_fields` or `hide_fields` may not use it.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), FAILED_PRECONDITION (UPSTREAM_CREDENTIALS_REJECTED), ABORTED (OUTCOME_UNKNOWN;
     * a repetition with the same request_id is not looked up).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.CallResponse> call(
        leadgate.v1.CallRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCallMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_CALL = 0;

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
        case METHODID_CALL:
          serviceImpl.call((leadgate.v1.CallRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.CallResponse>) responseObserver);
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
          getCallMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.CallRequest,
              leadgate.v1.CallResponse>(
                service, METHODID_CALL)))
        .build();
  }

  private static abstract class RestServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    RestServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return leadgate.v1.RestProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("RestService");
    }
  }

  private static final class RestServiceFileDescriptorSupplier
      extends RestServiceBaseDescriptorSupplier {
    RestServiceFileDescriptorSupplier() {}
  }

  private static final class RestServiceMethodDescriptorSupplier
      extends RestServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    RestServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (RestServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new RestServiceFileDescriptorSupplier())
              .addMethod(getCallMethod())
              .build();
        }
      }
    }
    return result;
  }
}
