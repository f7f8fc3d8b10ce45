#include "server/security/scope.h"

#include <map>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "pot/v1/inference.pb.h"
#include "pot/v1/model.pb.h"
#include "pot/v1/training.pb.h"
#include "pot/v1/worker.pb.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

// "pot.v1.InferenceService/Generate" of every service of the package.
std::set<std::string> DescribedMethods() {
  std::set<std::string> methods;
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(),
        v1::ListModelsRequest::descriptor()->file(),
        v1::SubmitQatRequest::descriptor()->file(),
        v1::AcquireLeaseRequest::descriptor()->file()}) {
    EXPECT_GT(file->service_count(), 0) << file->name();
    for (int i = 0; i < file->service_count(); ++i) {
      const google::protobuf::ServiceDescriptor* service = file->service(i);
      for (int j = 0; j < service->method_count(); ++j) {
        methods.insert(service->full_name() + "/" + service->method(j)->name());
      }
    }
  }
  return methods;
}

TEST(ScopeTest, EveryMethodOfTheProtosHasScopesAndNoOtherHas) {
  std::set<std::string> listed;
  std::set<std::string> names;
  for (const MethodScope& entry : MethodScopes()) {
    EXPECT_TRUE(
        listed.insert(std::string(entry.service) + "/" + entry.method).second)
        << entry.method;
    // Calls are looked up by the method's name alone.
    EXPECT_TRUE(names.insert(entry.method).second) << entry.method;
    EXPECT_NE(entry.scopes, 0) << entry.method;
    EXPECT_EQ(ScopesForMethod(entry.method), entry.scopes);
  }
  EXPECT_EQ(listed, DescribedMethods());
}

TEST(ScopeTest, UnknownMethodsHaveNoScopeThatAKeyCouldHave) {
  EXPECT_EQ(ScopesForMethod("NoSuchMethod"), 0);
  EXPECT_EQ(ScopesForMethod(""), 0);
}

TEST(ScopeTest, ServicesKeepToTheirScopes) {
  const std::map<std::string, ScopeSet> only = {
      {"pot.v1.InferenceService", ScopesOf(Scope::kInfer)},
      {"pot.v1.TrainingService", ScopesOf(Scope::kTrain)},
      {"pot.v1.TrainerWorkerService", ScopesOf(Scope::kWorker)},
  };
  for (const MethodScope& entry : MethodScopes()) {
    const auto expected = only.find(entry.service);
    if (expected != only.end()) {
      EXPECT_EQ(entry.scopes, expected->second) << entry.method;
    }
    // What trainers may do is theirs alone.
    if (!absl::StrContains(entry.service, "Worker")) {
      EXPECT_EQ(entry.scopes & ScopesOf(Scope::kWorker), 0) << entry.method;
    }
  }
  for (const char* const method :
       {"LoadModel", "UnloadModel", "RegisterCheckpoint", "ImportModel",
        "SetAlias", "RollbackAlias", "DeleteVersion"}) {
    EXPECT_EQ(ScopesForMethod(method), ScopesOf(Scope::kAdmin)) << method;
  }
}

TEST(ScopeTest, NamesGoThereAndBack) {
  const auto scopes = ParseScopes("train,infer");
  ASSERT_TRUE(scopes.ok());
  EXPECT_EQ(*scopes, ScopesOf(Scope::kInfer, Scope::kTrain));
  EXPECT_EQ(ScopeNames(*scopes), "infer,train");
  EXPECT_EQ(ScopeNames(*scopes, " or "), "infer or train");
  for (const char* const wrong :
       {"", "root", "infer,", "infer,infer", "INFER", "infer train"}) {
    const auto refused = ParseScopes(wrong);
    ASSERT_FALSE(refused.ok()) << wrong;
    EXPECT_THAT(std::string(refused.status().message()),
                HasSubstr("infer,admin,train,worker"));
  }
}

}  // namespace
}  // namespace pot
