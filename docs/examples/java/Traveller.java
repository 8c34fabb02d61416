import biomatch.v1.Common.Image;
import biomatch.v1.Common.Probe;
import biomatch.v1.Common.Receipt;
import biomatch.v1.EnrolmentServiceGrpc;
import biomatch.v1.EnrolmentServiceOuterClass.Encounter;
import biomatch.v1.EnrolmentServiceOuterClass.EnrolRequest;
import biomatch.v1.EnrolmentServiceOuterClass.EnrolResponse;
import biomatch.v1.MatchingServiceGrpc;
import biomatch.v1.MatchingServiceOuterClass.VerifyRequest;
import biomatch.v1.MatchingServiceOuterClass.VerifyResponse;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import google.rpc.ErrorDetails.BadRequest;
import google.rpc.ErrorDetails.ErrorInfo;
import google.rpc.ErrorDetails.RetryInfo;
import grpc.health.v1.HealthGrpc;
import grpc.health.v1.HealthOuterClass.HealthCheckRequest;
import grpc.health.v1.HealthOuterClass.HealthCheckResponse.ServingStatus;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.handler.ssl.SslContext;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * An endpoint of biomatchd: enrols a traveller, then verifies captures until there is a decision.
 *
 * <pre>Traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...</pre>
 *
 * TARGETS are addresses separated by commas, the leader's first; CA the CAs that sign the service's certificates, PEM;
 * ENDPOINT.pem and ENDPOINT.key this endpoint's certificate and its key (PKCS#8); REFERENCE the picture to enrol; a CAPTURE
 * what the camera gives: the next one is taken where the service asks for another picture.
 *
 * Exits with 0 for a match, 2 for none, 3 where an officer decides. Every other status means that nothing was decided: 1 is
 * what an exception gives, and must not be taken for an answer.
 */
public final class Traveller {
    private static final long ONE_TRY = 5000; // milliseconds until a try is given up
    private static final long ALL_TRIES = 15000; // milliseconds until the call is

    // What the person before the camera can mend. Every other reason is for an officer.
    private static final Map<String, String> RETAKE = Map.of(
            "NO_FACE", "look into the camera",
            "SEVERAL_FACES", "one person at a time",
            "FACE_TOO_SMALL", "come closer",
            "FACE_INCOMPLETE", "stand in the middle",
            "LOW_QUALITY", "hold still, face the camera, mind the light",
            "FRAMES_DIFFER", "one person at a time");

    /** Nothing was decided. Never to be taken for NO_MATCH: the gate stays shut and an officer comes. */
    static final class Fault extends Exception {
        private static final Metadata.Key<byte[]> DETAILS =
                Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
        final Status.Code code;
        String reason = "";
        String field = "";
        long waitMs;

        Fault(StatusRuntimeException error) {
            super(error.getStatus().getDescription(), error);
            code = error.getStatus().getCode();
            Metadata trailers = error.getTrailers();
            byte[] details = trailers == null ? null : trailers.get(DETAILS);
            try {
                if (details != null) {
                    for (Any detail : google.rpc.StatusOuterClass.Status.parseFrom(details).getDetailsList()) {
                        read(detail);
                    }
                }
            } catch (InvalidProtocolBufferException malformed) {
                addSuppressed(malformed);
            }
        }

        private void read(Any detail) throws InvalidProtocolBufferException {
            if (detail.is(ErrorInfo.class)) {
                reason = detail.unpack(ErrorInfo.class).getReason();
            } else if (detail.is(RetryInfo.class)) {
                var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                waitMs = delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000;
            } else if (detail.is(BadRequest.class)) {
                field = detail.unpack(BadRequest.class).getFieldViolations(0).getField();
            }
        }

        /** Whether the same request may be answered a moment later, or at another address. */
        boolean isPassing() {
            if (code == Status.Code.RESOURCE_EXHAUSTED) {
                return Set.of("", "OVERLOADED", "OUT_OF_MEMORY").contains(reason);
            }
            return code == Status.Code.UNAVAILABLE || code == Status.Code.DEADLINE_EXCEEDED
                    || reason.equals("FOLLOWS_ANOTHER");
        }
    }

    /** One call on a channel, given up after so many milliseconds. */
    interface Call<T> {
        T on(ManagedChannel channel, long timeoutMs);
    }

    /** The service at one of several addresses, with this endpoint's certificate. */
    static final class Service implements AutoCloseable {
        private final List<ManagedChannel> channels;
        private final Map<String, ManagedChannel> chosen = new HashMap<>();

        Service(String targets, String ca, String endpoint) throws IOException {
            SslContext tls = GrpcSslContexts.forClient()
                    .protocols("TLSv1.3") // older versions of netty do not offer it by themselves
                    .trustManager(new File(ca))
                    .keyManager(new File(endpoint + ".pem"), new File(endpoint + ".key"))
                    .build();
            channels = Arrays.stream(targets.split(",")).map(target -> (ManagedChannel) NettyChannelBuilder.forTarget(target)
                    .sslContext(tls)
                    .disableRetry() // call() knows better
                    .keepAliveTime(20, TimeUnit.SECONDS) // finds a dead connection before the next traveller does
                    .keepAliveTimeout(5, TimeUnit.SECONDS)
                    .keepAliveWithoutCalls(true)
                    .build()).toList();
        }

        @Override
        public void close() {
            channels.forEach(ManagedChannel::shutdownNow);
        }

        /** Calls until there is an answer. The request has to bear repetition: a write its request_id. */
        <T> T call(String name, Call<T> call) throws Fault, InterruptedException {
            long end = now() + ALL_TRIES;
            for (long pause = 200;;) {
                try {
                    return once(name, call, Math.min(ONE_TRY, end - now()));
                } catch (Fault fault) {
                    pause = fault.waitMs > 0 ? Math.max(pause, fault.waitMs) : Math.min(pause * 2, 5000);
                    // So that a hall full of kiosks does not come back as one.
                    long wait = pause + ThreadLocalRandom.current().nextLong(pause / 2);
                    if (!fault.isPassing() || now() + wait > end) {
                        throw fault;
                    }
                    Thread.sleep(wait);
                }
            }
        }

        private <T> T once(String name, Call<T> call, long timeoutMs) throws Fault {
            try {
                return call.on(chosen.computeIfAbsent(name, this::serving), timeoutMs);
            } catch (StatusRuntimeException error) {
                chosen.remove(name);
                throw new Fault(error);
            }
        }

        /** The first address whose health says that it serves: for enrolments, that is the leader. */
        private ManagedChannel serving(String name) {
            HealthCheckRequest request = HealthCheckRequest.newBuilder().setService(name).build();
            for (ManagedChannel channel : channels) {
                try {
                    var health = HealthGrpc.newBlockingStub(channel).withDeadlineAfter(1, TimeUnit.SECONDS).check(request);
                    if (health.getStatus() == ServingStatus.SERVING) {
                        return channel;
                    }
                } catch (StatusRuntimeException error) {
                    continue;
                }
            }
            return channels.get(0); // whose own error then says what is wrong
        }

        private static long now() {
            return TimeUnit.NANOSECONDS.toMillis(System.nanoTime());
        }
    }

    private static Probe picture(String path) throws IOException {
        return Probe.newBuilder()
                .setImage(Image.newBuilder().setData(ByteString.copyFrom(Files.readAllBytes(Path.of(path)))))
                .build();
    }

    /** The proof that the answer is in the audit log, as `biomatch audit prove` takes it. Keep it with the case. */
    private static String receipt(Receipt receipt) {
        if (receipt.getSequence() == 0 || receipt.getHash().size() != 32) {
            throw new IllegalStateException("an answer without a receipt");
        }
        return Long.toUnsignedString(receipt.getSequence()) + ":" + HexFormat.of().formatHex(receipt.getHash().toByteArray());
    }

    private static void enrol(Service service, String purpose, String gallery, String subject, String path)
            throws Fault, InterruptedException, IOException {
        // Made before the first try and kept through all of them: a repeat returns the first answer. A standby that took
        // the lead in between does not know it, but finds the encounter of this name there.
        String id = UUID.randomUUID().toString();
        EnrolRequest request = EnrolRequest.newBuilder()
                .setPurpose(purpose).setRequestId(id).setGallery(gallery).setSubjectId(subject)
                .setEncounter(Encounter.newBuilder().setEncounterId(id)).setReference(picture(path)).build();
        EnrolResponse answer;
        try {
            answer = service.call("biomatch.v1.EnrolmentService", (channel, ms) -> EnrolmentServiceGrpc
                    .newBlockingStub(channel).withDeadlineAfter(ms, TimeUnit.MILLISECONDS).enrol(request));
        } catch (Fault fault) {
            if (!fault.reason.equals("ALREADY_EXISTS")) {
                throw fault;
            }
            System.out.println("enrolled before");
            return;
        }
        String outcome = answer.getOutcome().name().replace("ENROL_OUTCOME_", "");
        String reason = answer.getReasonValue() == 0 ? "" : answer.getReason().name().replace("REASON_", "") + " ";
        System.out.println("enrolled " + outcome + " " + reason + receipt(answer.getReceipt()));
    }

    /** The exit status of the first decision that is not a request for another picture. */
    private static int verify(Service service, String purpose, String gallery, String subject, List<String> captures)
            throws Fault, InterruptedException, IOException {
        for (String path : captures) {
            VerifyRequest request = VerifyRequest.newBuilder()
                    .setPurpose(purpose).setGallery(gallery).setSubjectId(subject).setProbe(picture(path)).build();
            VerifyResponse answer = service.call("biomatch.v1.MatchingService", (channel, ms) -> MatchingServiceGrpc
                    .newBlockingStub(channel).withDeadlineAfter(ms, TimeUnit.MILLISECONDS).verify(request));
            switch (answer.getDecision()) {
                case DECISION_MATCH:
                    System.out.println("verified MATCH " + receipt(answer.getReceipt()));
                    return 0;
                case DECISION_NO_MATCH:
                    System.out.println("verified NO_MATCH " + receipt(answer.getReceipt()));
                    return 2;
                case DECISION_REFER:
                    break;
                default:
                    throw new IllegalStateException("a decision that this program does not know");
            }
            // UNRECOGNIZED for a reason that is newer than this program, which is for an officer, too.
            String reason = answer.getReason().name().replace("REASON_", "");
            System.out.println("verified REFER " + reason + " " + receipt(answer.getReceipt()));
            if (!RETAKE.containsKey(reason)) {
                break;
            }
            System.out.println(RETAKE.get(reason));
        }
        System.out.println("an officer decides");
        return 3;
    }

    private static int run(String[] args) throws IOException, InterruptedException {
        try (Service service = new Service(args[0], args[1], args[2])) {
            enrol(service, args[3], args[4], args[5], args[6]);
            return verify(service, args[3], args[4], args[5], List.of(args).subList(7, args.length));
        } catch (Fault fault) {
            System.err.println(String.join(" ", "fault", fault.code.name(), fault.reason.isEmpty() ? "-" : fault.reason,
                    fault.field.isEmpty() ? "-" : fault.field, fault.getMessage()));
            return 4;
        }
    }

    public static void main(String[] args) throws IOException, InterruptedException {
        if (args.length < 8) {
            System.err.println("Traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...");
            System.exit(64);
        }
        System.exit(run(args));
    }
}
