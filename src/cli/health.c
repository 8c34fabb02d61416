/* health, reload, version. */
#include <stdio.h>

#include "cli.h"
#include "grpc/health/v1/health.pb-c.h"

static const struct method check_method = {"/grpc.health.v1.Health/Check",
					   &grpc__health__v1__health_check_response__descriptor,
					   false};

static const struct method reload_method = {"/biomatch.v1.AdminService/Reload",
					    &biomatch__v1__reload_response__descriptor, true};

int run_health(struct cli *cli)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	const Grpc__Health__V1__HealthCheckResponse *response;
	const ProtobufCEnumDescriptor *type =
		&grpc__health__v1__health_check_response__serving_status__descriptor;
	ProtobufCMessage *reply;
	int result = cli_call(cli, &check_method, &request.base, &reply);
	bool serving;

	if (result)
		return result;
	response = (const Grpc__Health__V1__HealthCheckResponse *)reply;
	serving = response->status ==
		  GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	if (cli->options.json)
		result = print_json(reply);
	else
		print_fact("status", "%s", enum_text(type, (int)response->status, ""));
	return result ? result : serving ? EXIT_DONE : EXIT_SERVICE;
}

int run_reload(struct cli *cli)
{
	Biomatch__V1__ReloadRequest request = BIOMATCH__V1__RELOAD_REQUEST__INIT;
	const Biomatch__V1__ReloadResponse *response;
	ProtobufCMessage *reply;
	bool all = true;
	int result;

	request.purpose = (char *)cli->options.purpose;
	result = cli_call(cli, &reload_method, &request.base, &reply);
	if (result)
		return result;
	response = (const Biomatch__V1__ReloadResponse *)reply;
	if (cli->options.json)
		result = print_json(reply);
	for (size_t i = 0; i < response->n_parts; i++) {
		const Biomatch__V1__ReloadedPart *part = response->parts[i];

		all = all && part->taken;
		if (!cli->options.json)
			print_fact(part->part, "%s%s",
				   part->taken ? "taken" : "refused: ", part->message);
	}
	if (!cli->options.json)
		print_receipt(response->receipt);
	return result ? result : all ? EXIT_DONE : EXIT_SERVICE;
}

int run_version(struct cli *cli)
{
	if (cli->options.json)
		printf("{\n  \"version\": \"%s\"\n}\n", BIOMATCH_VERSION);
	else
		printf("biomatch %s\n", BIOMATCH_VERSION);
	return EXIT_DONE;
}
