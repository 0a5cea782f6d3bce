package leadgate.client;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.BiConsumer;
import java.util.function.Function;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.CreateLeadResponse;
import leadgate.v1.ExportLeadsRequest;
import leadgate.v1.ExportLeadsResponse;
import leadgate.v1.ImportLeadsRequest;
import leadgate.v1.ImportLeadsResponse;
import leadgate.v1.LeadServiceGrpc;

/** A server in plaintext whose responses a test decides. All other RPCs respond UNIMPLEMENTED. */
final class FakeGateway implements AutoCloseable {
    /** One received call. */
    record Received(String method, Metadata metadata, Deadline deadline) {
        String header(String name) {
            return metadata.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
        }
    }

    final List<Received> calls = new CopyOnWriteArrayList<>();
    final List<CreateLeadRequest> creates = new CopyOnWriteArrayList<>();
    /** Responds to the create with this number, from 0. */
    Function<Integer, StatusRuntimeException> failures = number -> null;
    BiConsumer<ExportLeadsRequest, StreamObserver<ExportLeadsResponse>> export;
    Function<StreamObserver<ImportLeadsResponse>, StreamObserver<ImportLeadsRequest>> imports;

    private final Server server;

    FakeGateway() throws IOException {
        this(0);
    }

    FakeGateway(int port) throws IOException {
        server = Grpc.newServerBuilderForPort(port, InsecureServerCredentials.create())
                .intercept(new Recorder())
                .addService(new Leads())
                .fallbackHandlerRegistry(new Unimplemented())
                .build()
                .start();
    }

    LeadgateClient.Builder client() {
        return LeadgateClient.builder("127.0.0.1:" + server.getPort()).plaintext();
    }

    int port() {
        return server.getPort();
    }

    @Override
    public void close() {
        server.shutdownNow();
    }

    /** An error as leadgate sends it. */
    static StatusRuntimeException error(io.grpc.Status.Code code, String reason, Map<String, String> metadata, java.time.Duration retry) {
        com.google.rpc.Status.Builder status = com.google.rpc.Status.newBuilder()
                .setCode(code.value())
                .setMessage("a test")
                .addDetails(Any.pack(ErrorInfo.newBuilder()
                        .setDomain("leadgate")
                        .setReason(reason)
                        .putAllMetadata(metadata)
                        .build()));
        if (retry != null) {
            Duration delay = Duration.newBuilder()
                    .setSeconds(retry.getSeconds())
                    .setNanos(retry.getNano())
                    .build();
            status.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
        }
        return StatusProto.toStatusRuntimeException(status.build());
    }

    private final class Recorder implements ServerInterceptor {
        @Override
        public <Q, R> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, R> call, Metadata metadata, ServerCallHandler<Q, R> next) {
            calls.add(new Received(
                    call.getMethodDescriptor().getBareMethodName(), metadata, Context.current().getDeadline()));
            return Contexts.interceptCall(Context.current(), call, metadata, next);
        }
    }

    private final class Leads extends LeadServiceGrpc.LeadServiceImplBase {
        @Override
        public void createLead(CreateLeadRequest request, StreamObserver<CreateLeadResponse> responses) {
            int number;
            synchronized (creates) {
                number = creates.size();
                creates.add(request);
            }
            StatusRuntimeException failure = failures.apply(number);
            if (failure != null) {
                responses.onError(failure);
                return;
            }
            responses.onNext(CreateLeadResponse.newBuilder().setLeadId("lead-" + number).build());
            responses.onCompleted();
        }

        @Override
        public void exportLeads(ExportLeadsRequest request, StreamObserver<ExportLeadsResponse> responses) {
            export.accept(request, responses);
        }

        @Override
        public StreamObserver<ImportLeadsRequest> importLeads(StreamObserver<ImportLeadsResponse> responses) {
            return imports.apply(responses);
        }
    }

    /** Accepts all other methods, so that the interceptor sees them. */
    private static final class Unimplemented extends io.grpc.HandlerRegistry {
        @Override
        public io.grpc.ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
            for (io.grpc.ServiceDescriptor service : List.of(
                    leadgate.v1.ShareServiceGrpc.getServiceDescriptor(),
                    leadgate.v1.QuotaServiceGrpc.getServiceDescriptor())) {
                for (io.grpc.MethodDescriptor<?, ?> method : service.getMethods()) {
                    if (method.getFullMethodName().equals(name)) {
                        return define(method);
                    }
                }
            }
            return null;
        }

        private static <Q, R> io.grpc.ServerMethodDefinition<Q, R> define(io.grpc.MethodDescriptor<Q, R> method) {
            return io.grpc.ServerMethodDefinition.create(
                    method,
                    ServerCalls.asyncUnaryCall(
                            (request, responses) -> ServerCalls.asyncUnimplementedUnaryCall(method, responses)));
        }
    }
}
