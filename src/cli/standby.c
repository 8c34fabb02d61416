/* standby promote. */
#include <inttypes.h>

#include "cli.h"

static const struct method promote_method = {"/biomatch.v1.AdminService/PromoteStandby",
					     &biomatch__v1__promote_standby_response__descriptor,
					     false};

int run_standby_promote(struct cli *cli)
{
	Biomatch__V1__PromoteStandbyRequest request = BIOMATCH__V1__PROMOTE_STANDBY_REQUEST__INIT;
	const Biomatch__V1__PromoteStandbyResponse *response;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	result = cli_call(cli, &promote_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__PromoteStandbyResponse *)reply;
	if (response->head)
		print_fact("leads", "in epoch %" PRIu64 ", from change %" PRIu64 " on",
			   response->head->epoch, response->head->sequence);
	print_receipt(response->receipt);
	return EXIT_DONE;
}
