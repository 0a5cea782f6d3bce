package leadgate.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Returns the state of the quota. Its rpcs use no quota.
 * Any rpc may fail with the errors that LeadService lists for all rpcs, except the errors of LeadSquared.
 * Request metadata of all services:
 * * `x-leadgate-caller`: the name of the caller, 1 to 64 letters, digits, - _ or . Default: "anonymous". Names that begin
 *   with "leadgate" are reserved. With the setting `auth.mode` = "callers" the entry is ignored: the credential decides.
 * * `x-leadgate-criticality`: critical-plus, critical, sheddable-plus (default) or sheddable.
 * If more calls wait than slots are free, calls with a higher criticality go first. Callers with the same criticality share
 * the slots by their weights. Up to a fifth of the slots is reserved for critical-plus and critical: as many slots as calls
 * of these criticalities have used recently.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class QuotaServiceGrpc {

  private QuotaServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "leadgate.v1.QuotaService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<leadgate.v1.GetQuotaRequest,
      leadgate.v1.GetQuotaResponse> getGetQuotaMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetQuota",
      requestType = leadgate.v1.GetQuotaRequest.class,
      responseType = leadgate.v1.GetQuotaResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<leadgate.v1.GetQuotaRequest,
      leadgate.v1.GetQuotaResponse> getGetQuotaMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.GetQuotaRequest, leadgate.v1.GetQuotaResponse> getGetQuotaMethod;
    if ((getGetQuotaMethod = QuotaServiceGrpc.getGetQuotaMethod) == null) {
      synchronized (QuotaServiceGrpc.class) {
        if ((getGetQuotaMethod = QuotaServiceGrpc.getGetQuotaMethod) == null) {
          QuotaServiceGrpc.getGetQuotaMethod = getGetQuotaMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.GetQuotaRequest, leadgate.v1.GetQuotaResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetQuota"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetQuotaRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.GetQuotaResponse.getDefaultInstance()))
              .setSchemaDescriptor(new QuotaServiceMethodDescriptorSupplier("GetQuota"))
              .build();
        }
      }
    }
    return getGetQuotaMethod;
  }

  private static volatile io.grpc.MethodDescriptor<leadgate.v1.WatchQuotaRequest,
      leadgate.v1.WatchQuotaResponse> getWatchQuotaMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchQuota",
      requestType = leadgate.v1.WatchQuotaRequest.class,
      responseType = leadgate.v1.WatchQuotaResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<leadgate.v1.WatchQuotaRequest,
      leadgate.v1.WatchQuotaResponse> getWatchQuotaMethod() {
    io.grpc.MethodDescriptor<leadgate.v1.WatchQuotaRequest, leadgate.v1.WatchQuotaResponse> getWatchQuotaMethod;
    if ((getWatchQuotaMethod = QuotaServiceGrpc.getWatchQuotaMethod) == null) {
      synchronized (QuotaServiceGrpc.class) {
        if ((getWatchQuotaMethod = QuotaServiceGrpc.getWatchQuotaMethod) == null) {
          QuotaServiceGrpc.getWatchQuotaMethod = getWatchQuotaMethod =
              io.grpc.MethodDescriptor.<leadgate.v1.WatchQuotaRequest, leadgate.v1.WatchQuotaResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchQuota"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.WatchQuotaRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  leadgate.v1.WatchQuotaResponse.getDefaultInstance()))
              .setSchemaDescriptor(new QuotaServiceMethodDescriptorSupplier("WatchQuota"))
              .build();
        }
      }
    }
    return getWatchQuotaMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static QuotaServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<QuotaServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<QuotaServiceStub>() {
        @java.lang.Override
        public QuotaServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new QuotaServiceStub(channel, callOptions);
        }
      };
    return QuotaServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static QuotaServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<QuotaServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<QuotaServiceBlockingStub>() {
        @java.lang.Override
        public QuotaServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new QuotaServiceBlockingStub(channel, callOptions);
        }
      };
    return QuotaServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static QuotaServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<QuotaServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<QuotaServiceFutureStub>() {
        @java.lang.Override
        public QuotaServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new QuotaServiceFutureStub(channel, callOptions);
        }
      };
    return QuotaServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Returns the state of the quota. Its rpcs use no quota.
   * Any rpc may fail with the errors that LeadService lists for all rpcs, except the errors of LeadSquared.
   * Request metadata of all services:
   * * `x-leadgate-caller`: the name of the caller, 1 to 64 letters, digits, - _ or . Default: "anonymous". Names that begin
   *   with "leadgate" are reserved. With the setting `auth.mode` = "callers" the entry is ignored: the credential decides.
   * * `x-leadgate-criticality`: critical-plus, critical, sheddable-plus (default) or sheddable.
   * If more calls wait than slots are free, calls with a higher criticality go first. Callers with the same criticality share
   * the slots by their weights. Up to a fifth of the slots is reserved for critical-plus and critical: as many slots as calls
   * of these criticalities have used recently.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Returns the current state of the quota.
     * Errors: only those of all rpcs.
     * </pre>
     */
    default void getQuota(leadgate.v1.GetQuotaRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetQuotaResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetQuotaMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams the state of the quota: at once, and then once per interval, for a day at most.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN: watch again, on another replica or later).
     * </pre>
     */
    default void watchQuota(leadgate.v1.WatchQuotaRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.WatchQuotaResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchQuotaMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service QuotaService.
   * <pre>
   * Returns the state of the quota. Its rpcs use no quota.
   * Any rpc may fail with the errors that LeadService lists for all rpcs, except the errors of LeadSquared.
   * Request metadata of all services:
   * * `x-leadgate-caller`: the name of the caller, 1 to 64 letters, digits, - _ or . Default: "anonymous". Names that begin
   *   with "leadgate" are reserved. With the setting `auth.mode` = "callers" the entry is ignored: the credential decides.
   * * `x-leadgate-criticality`: critical-plus, critical, sheddable-plus (default) or sheddable.
   * If more calls wait than slots are free, calls with a higher criticality go first. Callers with the same criticality share
   * the slots by their weights. Up to a fifth of the slots is reserved for critical-plus and critical: as many slots as calls
   * of these criticalities have used recently.
   * </pre>
   */
  public static abstract class QuotaServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return QuotaServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service QuotaService.
   * <pre>
   * Returns the state of the quota. Its rpcs use no quota.
   * Any rpc may fail with the errors that LeadService lists for all rpcs, except the errors of LeadSquared.
   * Request metadata of all services:
   * * `x-leadgate-caller`: the name of the caller, 1 to 64 letters, digits, - _ or . Default: "anonymous". Names that begin
   *   with "leadgate" are reserved. With the setting `auth.mode` = "callers" the entry is ignored: the credential decides.
   * * `x-leadgate-criticality`: critical-plus, critical, sheddable-plus (default) or sheddable.
   * If more calls wait than slots are free, calls with a higher criticality go first. Callers with the same criticality share
   * the slots by their weights. Up to a fifth of the slots is reserved for critical-plus and critical: as many slots as calls
   * of these criticalities have used recently.
   * </pre>
   */
  public static final class QuotaServiceStub
      extends io.grpc.stub.AbstractAsyncStub<QuotaServiceStub> {
    private QuotaServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected QuotaServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new QuotaServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the current state of the quota.
     * Errors: only those of all rpcs.
     * </pre>
     */
    public void getQuota(leadgate.v1.GetQuotaRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.GetQuotaResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetQuotaMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams the state of the quota: at once, and then once per interval, for a day at most.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN: watch again, on another replica or later).
     * </pre>
     */
    public void watchQuota(leadgate.v1.WatchQuotaRequest request,
        io.grpc.stub.StreamObserver<leadgate.v1.WatchQuotaResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchQuotaMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service QuotaService.
   * <pre>
   * Returns the state of the quota. Its rpcs use no quota.
   * Any rpc may fail with the errors that LeadService lists for all rpcs, except the errors of LeadSquared.
   * Request metadata of all services:
   * * `x-leadgate-caller`: the name of the caller, 1 to 64 letters, digits, - _ or . Default: "anonymous". Names that begin
   *   with "leadgate" are reserved. With the setting `auth.mode` = "callers" the entry is ignored: the credential decides.
   * * `x-leadgate-criticality`: critical-plus, critical, sheddable-plus (default) or sheddable.
   * If more calls wait than slots are free, calls with a higher criticality go first. Callers with the same criticality share
   * the slots by their weights. Up to a fifth of the slots is reserved for critical-plus and critical: as many slots as calls
   * of these criticalities have used recently.
   * </pre>
   */
  public static final class QuotaServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<QuotaServiceBlockingStub> {
    private QuotaServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected QuotaServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new QuotaServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the current state of the quota.
     * Errors: only those of all rpcs.
     * </pre>
     */
    public leadgate.v1.GetQuotaResponse getQuota(leadgate.v1.GetQuotaRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetQuotaMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the state of the quota: at once, and then once per interval, for a day at most.
     * Errors: INVALID_ARGUMENT (INVALID_FIELD), UNAVAILABLE (SHUTTING_DOWN: watch again, on another replica or later).
     * </pre>
     */
    public java.util.Iterator<leadgate.v1.WatchQuotaResponse> watchQuota(
        leadgate.v1.WatchQuotaRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchQuotaMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service QuotaService.
   * <pre>
   * Returns the state of the quota. Its rpcs use no quota.
   * Any rpc may fail with the errors that LeadService lists for all rpcs, except the errors of LeadSquared.
   * Request metadata of all services:
   * * `x-leadgate-caller`: the name of the caller, 1 to 64 letters, digits, - _ or . Default: "anonymous". Names that begin
   *   with "leadgate" are reserved. With the setting `auth.mode` = "callers" the entry is ignored: the credential decides.
   * * `x-leadgate-criticality`: critical-plus, critical, sheddable-plus (default) or sheddable.
   * If more calls wait than slots are free, calls with a higher criticality go first. Callers with the same criticality share
   * the slots by their weights. Up to a fifth of the slots is reserved for critical-plus and critical: as many slots as calls
   * of these criticalities have used recently.
   * </pre>
   */
  public static final class QuotaServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<QuotaServiceFutureStub> {
    private QuotaServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected QuotaServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new QuotaServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the current state of the quota.
     * Errors: only those of all rpcs.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<leadgate.v1.GetQuotaResponse> getQuota(
        leadgate.v1.GetQuotaRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetQuotaMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GET_QUOTA = 0;
  private static final int METHODID_WATCH_QUOTA = 1;

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
        case METHODID_GET_QUOTA:
          serviceImpl.getQuota((leadgate.v1.GetQuotaRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.GetQuotaResponse>) responseObserver);
          break;
        case METHODID_WATCH_QUOTA:
          serviceImpl.watchQuota((leadgate.v1.WatchQuotaRequest) request,
              (io.grpc.stub.StreamObserver<leadgate.v1.WatchQuotaResponse>) responseObserver);
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
          getGetQuotaMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              leadgate.v1.GetQuotaRequest,
              leadgate.v1.GetQuotaResponse>(
                service, METHODID_GET_QUOTA)))
        .addMethod(
          getWatchQuotaMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              leadgate.v1.WatchQuotaRequest,
              leadgate.v1.WatchQuotaResponse>(
                service, METHODID_WATCH_QUOTA)))
        .build();
  }

  private static abstract class QuotaServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    QuotaServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return leadgate.v1.QuotaProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("QuotaService");
    }
  }

  private static final class QuotaServiceFileDescriptorSupplier
      extends QuotaServiceBaseDescriptorSupplier {
    QuotaServiceFileDescriptorSupplier() {}
  }

  private static final class QuotaServiceMethodDescriptorSupplier
      extends QuotaServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    QuotaServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (QuotaServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new QuotaServiceFileDescriptorSupplier())
              .addMethod(getGetQuotaMethod())
              .addMethod(getWatchQuotaMethod())
              .build();
        }
      }
    }
    return result;
  }
}
