// An endpoint of biomatchd: enrols a traveller, then verifies captures until there is a decision.
//
//     traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...
//
// TARGETS    addresses separated by commas, the leader's first
// CA         the CAs that sign the service's certificates, PEM
// ENDPOINT   ENDPOINT.pem and ENDPOINT.key are this endpoint's certificate and its key
// REFERENCE  the picture to enrol
// CAPTURE    what the camera gives: the next one is taken where the service asks for another picture
//
// Exits with 0 for a match, 2 for none, 3 where an officer decides. Every other status means that nothing was decided.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "biomatch/v1/enrolment_service.grpc.pb.h"
#include "biomatch/v1/matching_service.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace v1 = biomatch::v1;
namespace health = grpc::health::v1;
using std::chrono::milliseconds;
using clock_type = std::chrono::steady_clock;

namespace {

constexpr milliseconds one_try{5000};   // until a try is given up
constexpr milliseconds all_tries{15000}; // until the call is

// What the person before the camera can mend. Every other reason is for an officer.
const std::map<v1::Reason, std::string> retake = {
    {v1::REASON_NO_FACE, "look into the camera"},
    {v1::REASON_SEVERAL_FACES, "one person at a time"},
    {v1::REASON_FACE_TOO_SMALL, "come closer"},
    {v1::REASON_FACE_INCOMPLETE, "stand in the middle"},
    {v1::REASON_LOW_QUALITY, "hold still, face the camera, mind the light"},
    {v1::REASON_FRAMES_DIFFER, "one person at a time"},
};

// Nothing was decided. Never to be taken for NO_MATCH: the gate stays shut and an officer comes.
class fault : public std::runtime_error {
public:
    explicit fault(const grpc::Status &status) : std::runtime_error(status.error_message()), code(status.error_code()) {
        google::rpc::Status details;
        google::rpc::ErrorInfo info;
        google::rpc::RetryInfo retry;
        google::rpc::BadRequest bad;

        if (!details.ParseFromString(status.error_details()))
            return;
        for (const auto &detail : details.details()) {
            if (detail.UnpackTo(&info))
                reason = info.reason();
            else if (detail.UnpackTo(&retry))
                wait = milliseconds(retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1000000);
            else if (detail.UnpackTo(&bad) && bad.field_violations_size() > 0)
                field = bad.field_violations(0).field();
        }
    }

    // Whether the same request may be answered a moment later, or at another address.
    bool is_passing() const {
        if (code == grpc::StatusCode::RESOURCE_EXHAUSTED)
            return reason.empty() || reason == "OVERLOADED" || reason == "OUT_OF_MEMORY";
        return code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED ||
               reason == "FOLLOWS_ANOTHER";
    }

    grpc::StatusCode code;
    std::string reason, field;
    milliseconds wait{0};
};

std::string read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file)
        throw std::runtime_error("cannot read " + path);
    return bytes;
}

using channel = std::shared_ptr<grpc::Channel>;
using attempt = std::function<grpc::Status(const channel &, grpc::ClientContext &)>;

// The service at one of several addresses, with this endpoint's certificate.
class service {
public:
    service(const std::string &targets, const std::string &ca, const std::string &endpoint) {
        grpc::SslCredentialsOptions tls;
        tls.pem_root_certs = read(ca);
        tls.pem_private_key = read(endpoint + ".key");
        tls.pem_cert_chain = read(endpoint + ".pem");

        grpc::ChannelArguments options;
        options.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);        // call() knows better
        options.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000); // finds a dead connection before the next traveller does
        options.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
        options.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
        options.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
        options.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
        options.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);

        std::istringstream list(targets);
        for (std::string target; std::getline(list, target, ',');)
            channels_.push_back(grpc::CreateCustomChannel(target, grpc::SslCredentials(tls), options));
    }

    // Calls until there is an answer. The request has to bear repetition: a write its request_id.
    void call(const std::string &name, const attempt &once) {
        const auto end = clock_type::now() + all_tries;
        for (milliseconds pause{200};;) {
            grpc::ClientContext context;
            context.set_deadline(std::chrono::system_clock::now() + std::min<clock_type::duration>(one_try, end - clock_type::now()));
            if (!chosen_.count(name))
                chosen_[name] = serving(name);
            const grpc::Status status = once(chosen_[name], context);
            if (status.ok())
                return;
            chosen_.erase(name);
            const fault failure(status);
            pause = failure.wait.count() ? std::max(pause, failure.wait) : std::min(pause * 2, milliseconds(5000));
            // So that a hall full of kiosks does not come back as one.
            const milliseconds wait = pause + milliseconds(std::uniform_int_distribution<>(0, pause.count() / 2)(random_));
            if (!failure.is_passing() || clock_type::now() + wait > end)
                throw failure;
            std::this_thread::sleep_for(wait);
        }
    }

private:
    // The first address whose health says that it serves: for enrolments, that is the leader.
    channel serving(const std::string &name) {
        health::HealthCheckRequest request;
        request.set_service(name);
        for (const auto &each : channels_) {
            grpc::ClientContext context;
            health::HealthCheckResponse answer;
            context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
            if (health::Health::NewStub(each)->Check(&context, request, &answer).ok() &&
                answer.status() == health::HealthCheckResponse::SERVING)
                return each;
        }
        return channels_.front(); // whose own error then says what is wrong
    }

    std::vector<channel> channels_;
    std::map<std::string, channel> chosen_;
    std::mt19937 random_{std::random_device{}()};
};

// The proof that the answer is in the audit log, as `biomatch audit prove` takes it. Keep it with the case.
std::string receipt(const v1::Receipt &entry) {
    static const char digits[] = "0123456789abcdef";
    std::string text = std::to_string(entry.sequence()) + ":";

    if (entry.sequence() == 0 || entry.hash().size() != 32)
        throw std::runtime_error("an answer without a receipt");
    for (unsigned char byte : entry.hash()) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

// The name of a value; nothing for one that is newer than this program.
std::string name_of(const std::string &name, const std::string &prefix) {
    return name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name;
}

// 128 random bits.
std::string new_id() {
    std::random_device random;
    std::ostringstream text;
    for (int i = 0; i < 4; i++)
        text << std::hex << random() << (i < 3 ? "-" : "");
    return text.str();
}

struct case_file {
    std::string purpose, gallery, subject;
};

void enrol(service &at, const case_file &who, const std::string &path) {
    // Made before the first try and kept through all of them: a repeat returns the first answer. A standby that took the
    // lead in between does not know it, but finds the encounter of this name there.
    const std::string id = new_id();
    v1::EnrolRequest request;
    v1::EnrolResponse answer;

    request.set_purpose(who.purpose);
    request.set_request_id(id);
    request.set_gallery(who.gallery);
    request.set_subject_id(who.subject);
    request.mutable_encounter()->set_encounter_id(id);
    request.mutable_reference()->mutable_image()->set_data(read(path));
    try {
        at.call("biomatch.v1.EnrolmentService", [&](const channel &to, grpc::ClientContext &context) {
            return v1::EnrolmentService::NewStub(to)->Enrol(&context, request, &answer);
        });
    } catch (const fault &failure) {
        if (failure.reason != "ALREADY_EXISTS")
            throw;
        std::cout << "enrolled before\n";
        return;
    }
    std::cout << "enrolled " << name_of(v1::EnrolOutcome_Name(answer.outcome()), "ENROL_OUTCOME_") << " ";
    if (answer.reason() != v1::REASON_UNSPECIFIED)
        std::cout << name_of(v1::Reason_Name(answer.reason()), "REASON_") << " ";
    std::cout << receipt(answer.receipt()) << "\n";
}

// The exit status of the first decision that is not a request for another picture.
int verify(service &at, const case_file &who, const std::vector<std::string> &captures) {
    for (const auto &path : captures) {
        v1::VerifyRequest request;
        v1::VerifyResponse answer;

        request.set_purpose(who.purpose);
        request.set_gallery(who.gallery);
        request.set_subject_id(who.subject);
        request.mutable_probe()->mutable_image()->set_data(read(path));
        at.call("biomatch.v1.MatchingService", [&](const channel &to, grpc::ClientContext &context) {
            return v1::MatchingService::NewStub(to)->Verify(&context, request, &answer);
        });
        switch (answer.decision()) {
        case v1::DECISION_MATCH:
            std::cout << "verified MATCH " << receipt(answer.receipt()) << "\n";
            return 0;
        case v1::DECISION_NO_MATCH:
            std::cout << "verified NO_MATCH " << receipt(answer.receipt()) << "\n";
            return 2;
        case v1::DECISION_REFER:
            break;
        default:
            throw std::runtime_error("a decision that this program does not know");
        }
        std::cout << "verified REFER " << name_of(v1::Reason_Name(answer.reason()), "REASON_") << " "
                  << receipt(answer.receipt()) << "\n";
        const auto hint = retake.find(answer.reason());
        if (hint == retake.end())
            break;
        std::cout << hint->second << "\n";
    }
    std::cout << "an officer decides\n";
    return 3;
}

const char *code_name(grpc::StatusCode code) {
    static const char *const names[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
        "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
        "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};
    return code >= 0 && static_cast<size_t>(code) < std::size(names) ? names[code] : "UNKNOWN";
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 9) {
        std::cerr << "traveller TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...\n";
        return 64;
    }
    try {
        service at(argv[1], argv[2], argv[3]);
        const case_file who{argv[4], argv[5], argv[6]};
        enrol(at, who, argv[7]);
        return verify(at, who, {argv + 8, argv + argc});
    } catch (const fault &failure) {
        std::cerr << "fault " << code_name(failure.code) << " " << (failure.reason.empty() ? "-" : failure.reason) << " "
                  << (failure.field.empty() ? "-" : failure.field) << " " << failure.what() << "\n";
    } catch (const std::exception &error) {
        std::cerr << "fault " << error.what() << "\n";
    }
    return 4;
}
