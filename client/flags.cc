#include "client/flags.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/text_format.h"

namespace pot {
namespace {

// How CLI11 hears of a value that is wrong; command_line.cc catches it.
void ThrowUnlessOk(const std::string& name, const absl::Status& status) {
  if (!status.ok()) {
    throw CLI::ValidationError(name, std::string(status.message()));
  }
}

void AddSecurityFlags(CLI::App* app, ChannelSecurityFlags* flags) {
  app->add_flag("--tls", flags->tls, "Encrypt, and check the server");
  app->add_option("--tls-ca", flags->tls_ca,
                  "PEM file of the authorities to trust [the system's]")
      ->type_name("FILE");
  app->add_option("--tls-cert", flags->tls_cert,
                  "PEM file of your certificate, if the server asks for one")
      ->type_name("FILE");
  app->add_option("--tls-key", flags->tls_key, "PEM file of its private key")
      ->type_name("FILE");
  app->add_option("--token-file", flags->token_file,
                  "File with your token [$POT_TOKEN]")
      ->type_name("FILE");
}

}  // namespace

CLI::Option* AddParsedFlag(
    CLI::App* app, const std::string& name,
    std::function<absl::Status(const std::string&)> parse,
    const std::string& description) {
  return app->add_option_function<std::string>(
      name,
      [name, parse = std::move(parse)](const std::string& value) {
        ThrowUnlessOk(name, parse(value));
      },
      description);
}

CLI::Option* AddListFlag(
    CLI::App* app, const std::string& name,
    std::function<absl::Status(const std::vector<std::string>&)> set,
    char delimiter, const std::string& description) {
  CLI::Option* option = app->add_option_function<std::vector<std::string>>(
      name,
      [name, set = std::move(set)](const std::vector<std::string>& values) {
        ThrowUnlessOk(name, set(values));
      },
      description);
  // Or the flag would swallow the positional arguments behind it.
  option->allow_extra_args(false);
  if (delimiter != 0) option->delimiter(delimiter);
  return option;
}

void AddCommonFlags(CLI::App* app, CommonFlags* flags) {
  app->add_option("--server", flags->server,
                  "Address of pot-server, HOST:PORT or unix:PATH")
      ->capture_default_str();
  AddParsedFlag(
      app, "--timeout",
      [flags](const std::string& value) {
        if (ParseTimeout(value, &flags->timeout)) return absl::OkStatus();
        return absl::InvalidArgumentError(absl::StrCat(
            Quoted(value), " is no time over 0, such as 30s or 500ms"));
      },
      "Time for each call, e.g. 30s [none]")
      ->type_name("DURATION");
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
      ->check(CLI::IsMember({"text", "json", "jsonl"}));
  app->add_option("--config", flags->config,
                  "File with values for flags: NAME = VALUE below [COMMAND]")
      ->type_name("FILE");
  app->add_flag("-v,--verbose", flags->verbose,
                "Statistics also when standard error is no terminal");
  AddSecurityFlags(app, &flags->security);
}

void AddModelFlag(CLI::App* app, std::string* model) {
  app->add_option("-m,--model", *model,
                  "NAME, NAME@VERSION, NAME@ALIAS or NAME@sha256:DIGEST "
                  "[the server's only model]")
      ->type_name("MODEL");
}

}  // namespace pot
