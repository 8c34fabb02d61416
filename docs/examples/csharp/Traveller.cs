// An endpoint of biomatchd: enrols a traveller, then verifies captures until there is a decision.
//
//     traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...
//
// TARGETS    addresses separated by commas, the leader's first
// CA         the CA that signs the service's certificates, PEM
// ENDPOINT   ENDPOINT.pem and ENDPOINT.key are this endpoint's certificate and its key
// REFERENCE  the picture to enrol
// CAPTURE    what the camera gives: the next one is taken where the service asks for another picture
//
// Exits with 0 for a match, 2 for none, 3 where an officer decides. Every other status means that nothing was decided.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Tasks;
using Biomatch.V1;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;

// Nothing was decided. Never to be taken for NO_MATCH: the gate stays shut and an officer comes.
public sealed class Fault : Exception
{
    public StatusCode Code { get; }
    public string Reason { get; } = "";
    public string Field { get; } = "";
    public TimeSpan Wait { get; } = TimeSpan.Zero;

    public Fault(RpcException error) : base(error.Status.Detail, error)
    {
        Code = error.StatusCode;
        var details = error.Trailers.GetValueBytes("grpc-status-details-bin");
        if (details == null)
            return;
        foreach (var detail in Google.Rpc.Status.Parser.ParseFrom(details).Details)
        {
            if (detail.TryUnpack(out ErrorInfo info))
                Reason = info.Reason;
            else if (detail.TryUnpack(out RetryInfo retry))
                Wait = retry.RetryDelay.ToTimeSpan();
            else if (detail.TryUnpack(out BadRequest bad) && bad.FieldViolations.Count > 0)
                Field = bad.FieldViolations[0].Field;
        }
    }

    // Whether the same request may be answered a moment later, or at another address.
    public bool IsPassing
    {
        get
        {
            if (Code == StatusCode.ResourceExhausted)
                return Reason == "" || Reason == "OVERLOADED" || Reason == "OUT_OF_MEMORY";
            return Code == StatusCode.Unavailable || Code == StatusCode.DeadlineExceeded || Reason == "FOLLOWS_ANOTHER";
        }
    }
}

// The service at one of several addresses, with this endpoint's certificate.
public sealed class Service : IDisposable
{
    private static readonly TimeSpan OneTry = TimeSpan.FromSeconds(5); // until a try is given up
    private static readonly TimeSpan AllTries = TimeSpan.FromSeconds(15); // until the call is
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(5);

    private readonly List<GrpcChannel> channels;
    private readonly Dictionary<string, GrpcChannel> chosen = new Dictionary<string, GrpcChannel>();
    private readonly Random random = new Random();

    public Service(string targets, string ca, string endpoint)
    {
        // Windows takes no key that is in memory alone: export to PKCS#12 and import that.
        var own = X509Certificate2.CreateFromPemFile(endpoint + ".pem", endpoint + ".key");
        var trust = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
        };
        trust.CustomTrustStore.ImportFromPemFile(ca);
        var tls = new SslClientAuthenticationOptions
        {
            EnabledSslProtocols = SslProtocols.Tls13,
            ClientCertificates = new X509CertificateCollection { own },
            CertificateChainPolicy = trust,
        };
        channels = targets.Split(',').Select(target => GrpcChannel.ForAddress("https://" + target, new GrpcChannelOptions
        {
            DisposeHttpClient = true,
            HttpHandler = new SocketsHttpHandler
            {
                SslOptions = tls,
                ConnectTimeout = TimeSpan.FromSeconds(2),
                KeepAlivePingDelay = TimeSpan.FromSeconds(20), // finds a dead connection before the next traveller does
                KeepAlivePingTimeout = TimeSpan.FromSeconds(5),
                KeepAlivePingPolicy = HttpKeepAlivePingPolicy.Always,
            },
        })).ToList();
    }

    public void Dispose()
    {
        foreach (var channel in channels)
            channel.Dispose();
    }

    // Calls until there is an answer. The request has to bear repetition: a write its request_id.
    public async Task<T> Call<T>(string name, Func<GrpcChannel, DateTime, AsyncUnaryCall<T>> call)
    {
        var end = DateTime.UtcNow + AllTries;
        for (var pause = TimeSpan.FromMilliseconds(200); ;)
        {
            Fault fault;
            try
            {
                var until = DateTime.UtcNow + OneTry;
                return await Once(name, channel => call(channel, until < end ? until : end));
            }
            catch (Fault failure)
            {
                fault = failure;
            }
            pause = fault.Wait > pause ? fault.Wait : fault.Wait > TimeSpan.Zero ? pause
                : pause + pause < LongestPause ? pause + pause : LongestPause;
            // So that a hall full of kiosks does not come back as one.
            var wait = pause + TimeSpan.FromMilliseconds(random.NextDouble() * pause.TotalMilliseconds / 2);
            if (!fault.IsPassing || DateTime.UtcNow + wait > end)
                throw fault;
            await Task.Delay(wait);
        }
    }

    private async Task<T> Once<T>(string name, Func<GrpcChannel, AsyncUnaryCall<T>> call)
    {
        try
        {
            if (!chosen.ContainsKey(name))
                chosen[name] = await Serving(name);
            return await call(chosen[name]);
        }
        catch (RpcException error)
        {
            chosen.Remove(name);
            throw new Fault(error);
        }
    }

    // The first address whose health says that it serves: for enrolments, that is the leader.
    private async Task<GrpcChannel> Serving(string name)
    {
        foreach (var channel in channels)
        {
            try
            {
                var health = await new Health.HealthClient(channel).CheckAsync(
                    new HealthCheckRequest { Service = name }, deadline: DateTime.UtcNow.AddSeconds(1));
                if (health.Status == HealthCheckResponse.Types.ServingStatus.Serving)
                    return channel;
            }
            catch (RpcException)
            {
                continue;
            }
        }
        return channels[0]; // whose own error then says what is wrong
    }
}

public static class Traveller
{
    // What the person before the camera can mend. Every other reason is for an officer.
    private static readonly Dictionary<Reason, string> Retake = new Dictionary<Reason, string>
    {
        [Reason.NoFace] = "look into the camera",
        [Reason.SeveralFaces] = "one person at a time",
        [Reason.FaceTooSmall] = "come closer",
        [Reason.FaceIncomplete] = "stand in the middle",
        [Reason.LowQuality] = "hold still, face the camera, mind the light",
        [Reason.FramesDiffer] = "one person at a time",
    };

    private static Probe Picture(string path)
    {
        return new Probe { Image = new Image { Data = ByteString.CopyFrom(File.ReadAllBytes(path)) } };
    }

    // The proof that the answer is in the audit log, as `biomatch audit prove` takes it. Keep it with the case.
    private static string Text(Receipt receipt)
    {
        if (receipt == null || receipt.Sequence == 0 || receipt.Hash.Length != 32)
            throw new InvalidDataException("an answer without a receipt");
        return receipt.Sequence + ":" + Convert.ToHexString(receipt.Hash.ToByteArray()).ToLowerInvariant();
    }

    // The name that the protos give a value; UNKNOWN for one that is newer than this program.
    private static string NameOf(Google.Protobuf.Reflection.FileDescriptor file, string type, int number, string prefix)
    {
        var value = file.EnumTypes.Single(each => each.Name == type).FindValueByNumber(number);
        return value == null ? "UNKNOWN" : value.Name.Substring(prefix.Length);
    }

    private static string NameOf(Reason reason)
    {
        return NameOf(CommonReflection.Descriptor, "Reason", (int)reason, "REASON_");
    }

    private static async Task Enrol(Service service, string purpose, string gallery, string subject, string path)
    {
        // Made before the first try and kept through all of them: a repeat returns the first answer. A standby that took
        // the lead in between does not know it, but finds the encounter of this name there.
        var id = Guid.NewGuid().ToString();
        var request = new EnrolRequest
        {
            Purpose = purpose,
            RequestId = id,
            Gallery = gallery,
            SubjectId = subject,
            Encounter = new Encounter { EncounterId = id },
            Reference = Picture(path),
        };
        try
        {
            var answer = await service.Call("biomatch.v1.EnrolmentService", (channel, until) =>
                new EnrolmentService.EnrolmentServiceClient(channel).EnrolAsync(request, deadline: until));
            var outcome = NameOf(EnrolmentServiceReflection.Descriptor, "EnrolOutcome", (int)answer.Outcome, "ENROL_OUTCOME_");
            var reason = answer.Reason == Reason.Unspecified ? "" : NameOf(answer.Reason) + " ";
            Console.WriteLine("enrolled " + outcome + " " + reason + Text(answer.Receipt));
        }
        catch (Fault fault) when (fault.Reason == "ALREADY_EXISTS")
        {
            Console.WriteLine("enrolled before");
        }
    }

    // The exit status of the first decision that is not a request for another picture.
    private static async Task<int> Verify(Service service, string purpose, string gallery, string subject,
        IEnumerable<string> captures)
    {
        foreach (var path in captures)
        {
            var request = new VerifyRequest
            {
                Purpose = purpose,
                Gallery = gallery,
                SubjectId = subject,
                Probe = Picture(path),
            };
            var answer = await service.Call("biomatch.v1.MatchingService", (channel, until) =>
                new MatchingService.MatchingServiceClient(channel).VerifyAsync(request, deadline: until));
            switch (answer.Decision)
            {
                case Decision.Match:
                    Console.WriteLine("verified MATCH " + Text(answer.Receipt));
                    return 0;
                case Decision.NoMatch:
                    Console.WriteLine("verified NO_MATCH " + Text(answer.Receipt));
                    return 2;
                case Decision.Refer:
                    break;
                default:
                    throw new InvalidDataException("a decision that this program does not know");
            }
            Console.WriteLine("verified REFER " + NameOf(answer.Reason) + " " + Text(answer.Receipt));
            if (!Retake.TryGetValue(answer.Reason, out var hint))
                break;
            Console.WriteLine(hint);
        }
        Console.WriteLine("an officer decides");
        return 3;
    }

    public static async Task<int> Main(string[] args)
    {
        if (args.Length < 8)
        {
            Console.Error.WriteLine("traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...");
            return 64;
        }
        try
        {
            using (var service = new Service(args[0], args[1], args[2]))
            {
                await Enrol(service, args[3], args[4], args[5], args[6]);
                return await Verify(service, args[3], args[4], args[5], args.Skip(7));
            }
        }
        catch (Fault fault)
        {
            Console.Error.WriteLine("fault {0} {1} {2} {3}", fault.Code, fault.Reason == "" ? "-" : fault.Reason,
                fault.Field == "" ? "-" : fault.Field, fault.Message);
            return 4;
        }
    }
}
