#include "server/security/tls_files.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Contents(BIO* bio) {
  char* data = nullptr;
  const int64_t size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

// A key pair and a certificate that it signs for itself, for a day.
class Identity {
 public:
  Identity() : key_(EVP_EC_gen("P-256")) {}
  ~Identity() { EVP_PKEY_free(key_); }
  Identity(const Identity&) = delete;
  Identity& operator=(const Identity&) = delete;

  std::string Certificate() const {
    X509* const certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key_);
    X509_sign(certificate, key_, EVP_sha256());
    BIO* const bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, certificate);
    X509_free(certificate);
    return Contents(bio);
  }
  std::string Key(const char* passphrase = nullptr) const {
    BIO* const bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(
        bio, key_, passphrase == nullptr ? nullptr : EVP_aes_128_cbc(), nullptr,
        0, nullptr, const_cast<char*>(passphrase));
    return Contents(bio);
  }

 private:
  EVP_PKEY* const key_;
};

std::string File(const std::string& name, const std::string& contents) {
  const std::string path = absl::StrCat(testing::TempDir(), "/", name);
  std::ofstream(path, std::ios::binary) << contents;
  return path;
}

std::string Error(const TlsFiles& files) {
  const auto material = ReadTlsFiles(files);
  EXPECT_EQ(material.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(material.status().message());
}

TEST(TlsFilesTest, ReadsAPairAndAnAuthority) {
  const Identity server, authority;
  const auto material = ReadTlsFiles({File("cert.pem", server.Certificate()),
                                      File("key.pem", server.Key()),
                                      File("ca.pem", authority.Certificate())});
  ASSERT_TRUE(material.ok()) << material.status();
  EXPECT_THAT(material->certificate, HasSubstr("BEGIN CERTIFICATE"));
  EXPECT_THAT(material->key, HasSubstr("PRIVATE KEY"));
  EXPECT_THAT(material->client_ca, HasSubstr("BEGIN CERTIFICATE"));
  // A day, to the minute.
  EXPECT_GT(material->expires,
            absl::Now() + absl::Hours(24) - absl::Minutes(1));
  EXPECT_LT(material->expires,
            absl::Now() + absl::Hours(24) + absl::Minutes(1));
}

TEST(TlsFilesTest, SaysEverythingThatIsWrongAtOnce) {
  const Identity server;
  const std::string error =
      Error({testing::TempDir() + "/absent.pem", File("key.pem", "garbage"),
             File("ca.pem", server.Key()), "worker-client-ca"});
  EXPECT_THAT(error, HasSubstr("--tls-cert: "));
  EXPECT_THAT(error, HasSubstr("absent.pem"));
  EXPECT_THAT(error, HasSubstr("--tls-key: "));
  EXPECT_THAT(error, HasSubstr("no PEM private key"));
  EXPECT_THAT(error, HasSubstr("--worker-client-ca: "));
  EXPECT_THAT(error, HasSubstr("no PEM certificate"));
}

TEST(TlsFilesTest, AKeyOfAnotherCertificateIsRefused) {
  const Identity server, other;
  EXPECT_THAT(Error({File("cert.pem", server.Certificate()),
                     File("key.pem", other.Key()), ""}),
              HasSubstr("is not the key of"));
}

TEST(TlsFilesTest, AKeyWithAPassphraseIsRefusedWithoutAskingForIt) {
  const Identity server;
  EXPECT_THAT(Error({File("cert.pem", server.Certificate()),
                     File("key.pem", server.Key("secret")), ""}),
              HasSubstr("without a passphrase"));
}

TEST(TlsFilesTest, EmptyCutAndSwappedFilesAreRefused) {
  const Identity server;
  const std::string certificate = server.Certificate();
  EXPECT_THAT(Error({File("cert.pem", ""), File("key.pem", ""), ""}),
              HasSubstr("--tls-key"));
  EXPECT_THAT(
      Error({File("cert.pem", certificate.substr(0, certificate.size() / 2)),
             File("key.pem", server.Key()), ""}),
      HasSubstr("no PEM certificate"));
  EXPECT_THAT(
      Error({File("cert.pem", server.Key()), File("key.pem", certificate), ""}),
      HasSubstr("no PEM private key"));
  // What a key file holds is nobody's business.
  EXPECT_THAT(
      Error({File("cert.pem", server.Key()), File("key.pem", certificate), ""}),
      Not(HasSubstr("BEGIN")));
}

}  // namespace
}  // namespace pot
