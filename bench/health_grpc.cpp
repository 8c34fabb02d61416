/*
 * health_grpc PKI: as bench/health.c with gRPC C++: an asynchronous service, one completion queue
 * and one thread that polls it, default channel arguments. Prints its port and serves until it is
 * killed.
 */
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "health.h"

namespace
{

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

/* More than there are calls at once, so that none waits for a slot. */
constexpr size_t SLOTS = 256;

/* Waits for a call, answers it, and waits for the next. */
class Slot
{
      public:
	Slot(Health::AsyncService &of, grpc::ServerCompletionQueue &on) : service(of), queue(on)
	{
		wait();
	}

	void proceed(bool ok)
	{
		if (answered)
			wait();
		else if (ok)
			answer();
	}

      private:
	void wait()
	{
		answered = false;
		responder.reset();
		context.emplace();
		responder.emplace(&*context);
		service.RequestCheck(&*context, &request, &*responder, &queue, &queue, this);
	}

	void answer()
	{
		answered = true;
		if (request.service() == HEALTH_SERVICE) {
			response.set_status(HealthCheckResponse::SERVING);
			responder->Finish(response, grpc::Status::OK, this);
		} else {
			responder->FinishWithError({grpc::StatusCode::NOT_FOUND, "no such service"},
						   this);
		}
	}

	Health::AsyncService &service;
	grpc::ServerCompletionQueue &queue;
	std::optional<grpc::ServerContext> context;
	std::optional<grpc::ServerAsyncResponseWriter<HealthCheckResponse>> responder;
	HealthCheckRequest request;
	HealthCheckResponse response;
	bool answered = false;
};

std::string slurp(const std::string &path)
{
	std::ifstream file(path);
	std::ostringstream text;

	text << file.rdbuf();
	if (!file || text.str().empty())
		throw std::runtime_error(path + ": cannot be read");
	return text.str();
}

std::shared_ptr<grpc::ServerCredentials> credentials(const std::string &pki)
{
	grpc::SslServerCredentialsOptions options(
		GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);

	options.pem_root_certs = slurp(pki + "/ca.pem");
	options.pem_key_cert_pairs.push_back(
		{slurp(pki + "/server.key"), slurp(pki + "/server.pem")});
	return grpc::SslServerCredentials(options);
}

void serve(const std::string &pki)
{
	Health::AsyncService service;
	grpc::ServerBuilder builder;
	std::vector<std::unique_ptr<Slot>> slots;
	int port = 0;
	void *slot;
	bool ok;

	builder.AddListeningPort("127.0.0.1:0", credentials(pki), &port);
	builder.RegisterService(&service);
	auto queue = builder.AddCompletionQueue();
	auto server = builder.BuildAndStart();
	if (!server)
		throw std::runtime_error("cannot listen");
	for (size_t i = 0; i < SLOTS; i++)
		slots.push_back(std::make_unique<Slot>(service, *queue));
	std::cout << port << std::endl;
	while (queue->Next(&slot, &ok))
		static_cast<Slot *>(slot)->proceed(ok);
}

} // namespace

int main(int argc, char **argv)
{
	if (argc != 2) {
		std::cerr << "usage: health_grpc PKI\n";
		return 2;
	}
	try {
		serve(argv[1]);
	} catch (const std::exception &e) {
		std::cerr << "health_grpc: " << e.what() << "\n";
		return 1;
	}
	return 0;
}
