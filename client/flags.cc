#include "client/flags.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/text_format.h"

namespace pot {
namespace {

void AddSecurityFlags(const Command& app, ChannelSecurityFlags* flags) {
  app.AddSwitch("--tls", &flags->tls, "Encrypt, and check the server");
  app.AddFlag("--tls-ca", &flags->tls_ca,
              "PEM file of the authorities to trust [the system's]")
      .TypeName("FILE");
  app.AddFlag("--tls-cert", &flags->tls_cert,
              "PEM file of your certificate, if the server asks for one")
      .TypeName("FILE");
  app.AddFlag("--tls-key", &flags->tls_key, "PEM file of its private key")
      .TypeName("FILE");
  app.AddFlag("--token-file", &flags->token_file,
              "File with your token [$POT_TOKEN]")
      .TypeName("FILE");
}

}  // namespace

void AddCommonFlags(const Command& app, CommonFlags* flags) {
  app.AddFlag("--server", &flags->server,
              "Address of pot-server, HOST:PORT or unix:PATH")
      .ShowDefault();
  app.AddParsedFlag(
         "--timeout",
         [flags](const std::string& value) {
           if (ParseTimeout(value, &flags->timeout)) return absl::OkStatus();
           return absl::InvalidArgumentError(absl::StrCat(
               Quoted(value), " is no time over 0, such as 30s or 500ms"));
         },
         "Time for each call, e.g. 30s [none]")
      .TypeName("DURATION");
  const std::map<std::string, OutputFormat> formats = {
      {"text", OutputFormat::kText},
      {"json", OutputFormat::kJson},
      {"jsonl", OutputFormat::kJsonLines}};
  AddValueFlag<std::string>(
      app, "--output",
      [flags, formats](const std::string& value) {
        flags->output = formats.at(value);
      },
      "How standard output is written [text]")
      .OneOf({"text", "json", "jsonl"});
  app.AddFlag("--config", &flags->config,
              "File with values for flags: NAME = VALUE below [COMMAND]")
      .TypeName("FILE");
  app.AddSwitch("-v,--verbose", &flags->verbose,
                "Statistics also when standard error is no terminal");
  AddSecurityFlags(app, &flags->security);
}

void AddModelFlag(const Command& app, std::string* model) {
  app.AddFlag("-m,--model", model,
              "NAME, NAME@VERSION, NAME@ALIAS or NAME@sha256:DIGEST "
              "[the server's only model]")
      .TypeName("MODEL");
}

}  // namespace pot
