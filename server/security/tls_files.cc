#include "server/security/tls_files.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"

namespace pot {
namespace {

constexpr size_t kMaxPemBytes = 1 << 20;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, Free>;
using Certificate = std::unique_ptr<X509, Free>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Free>;

// No passphrase: or OpenSSL would ask the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

Bio Reader(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

absl::Time ExpiryOf(const X509& certificate) {
  struct tm time = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) != 1) {
    return absl::InfiniteFuture();
  }
  return absl::FromTM(time, absl::UTCTimeZone());
}

// Reads and parses, and keeps what is wrong.
class Files {
 public:
  std::optional<std::string> Read(const std::string& setting,
                                  const std::string& path) {
    absl::StatusOr<std::string> text = ReadFile(path, kMaxPemBytes);
    if (text.ok()) return *std::move(text);
    Wrong(setting, text.status().message());
    return std::nullopt;
  }

  Certificate ParseCertificate(const std::string& setting,
                               const std::string& path,
                               const std::optional<std::string>& pem) {
    if (!pem.has_value()) return nullptr;
    Certificate certificate(
        PEM_read_bio_X509(Reader(*pem).get(), nullptr, &NoPassphrase, nullptr));
    ERR_clear_error();
    if (certificate == nullptr) {
      Wrong(setting, absl::StrCat(Quote(path), " holds no PEM certificate"));
    }
    return certificate;
  }

  PrivateKey ParseKey(const std::string& path,
                      const std::optional<std::string>& pem) {
    if (!pem.has_value()) return nullptr;
    PrivateKey key(PEM_read_bio_PrivateKey(Reader(*pem).get(), nullptr,
                                           &NoPassphrase, nullptr));
    ERR_clear_error();
    if (key == nullptr) {
      Wrong("tls-key",
            absl::StrCat(Quote(path),
                         " holds no PEM private key without a passphrase"));
    }
    return key;
  }

  void Wrong(const std::string& setting, absl::string_view complaint) {
    errors_.push_back(absl::StrCat("--", setting, ": ", complaint));
  }

  const std::vector<std::string>& errors() const { return errors_; }

 private:
  std::vector<std::string> errors_;
};

}  // namespace

absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsFiles& paths) {
  Files files;
  const auto certificate_pem = files.Read("tls-cert", paths.certificate);
  const Certificate certificate =
      files.ParseCertificate("tls-cert", paths.certificate, certificate_pem);
  const auto key_pem = files.Read("tls-key", paths.key);
  const PrivateKey key = files.ParseKey(paths.key, key_pem);
  if (certificate != nullptr && key != nullptr &&
      X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    files.Wrong("tls-key", absl::StrCat(Quote(paths.key), " is not the key of ",
                                        Quote(paths.certificate)));
  }
  std::optional<std::string> ca_pem;
  if (!paths.client_ca.empty()) {
    ca_pem = files.Read(paths.client_ca_setting, paths.client_ca);
    files.ParseCertificate(paths.client_ca_setting, paths.client_ca, ca_pem);
  }
  if (!files.errors().empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(files.errors(), "\n"));
  }
  return TlsMaterial{*certificate_pem, *key_pem, ca_pem.value_or(""),
                     ExpiryOf(*certificate)};
}

}  // namespace pot
