#include "engine/kernels/kernel_table.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(KernelTable, FirstIsTheScalarReference) {
  EXPECT_EQ(AllKernelTables()[0]->name, "scalar");
  EXPECT_TRUE(AllKernelTables()[0]->supported());
  EXPECT_EQ(AllKernelTables()[1]->name, "shift");
  EXPECT_TRUE(AllKernelTables()[1]->supported());
}

TEST(KernelTable, EveryMemberIsSet) {
  for (const KernelTable* table : AllKernelTables()) {
    EXPECT_TRUE(table->pot_dot && table->add_scaled && table->dot &&
                table->layer_norm && table->gelu_tanh && table->gelu_erf &&
                table->softmax && table->axpy && table->float_to_half &&
                table->scale_outputs && table->exp_sum && table->arg_max &&
                table->sampling_weights && table->quantize &&
                table->score_keys_f16 && table->score_keys_f32 &&
                table->mix_values_f16 && table->mix_values_f32)
        << std::string(table->name);
  }
}

TEST(KernelTable, FindsEverySupportedTableByName) {
  for (const KernelTable* table : AllKernelTables()) {
    const auto found = FindKernelTable(table->name);
    if (table->supported()) {
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(*found, table);
    } else {
      EXPECT_EQ(found.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(found.status().message()),
                  AllOf(HasSubstr(std::string(table->name)),
                        HasSubstr("auto, scalar, shift")));
    }
  }
}

TEST(KernelTable, AutoIsTheLastSupportedButNeverShift) {
  const KernelTable* last = nullptr;
  for (const KernelTable* table : AllKernelTables()) {
    if (table->supported() && table->name != "shift") last = table;
  }
  EXPECT_EQ(FindKernelTable("").value(), last);
  EXPECT_EQ(FindKernelTable("auto").value(), last);
}

TEST(KernelTable, UnknownNameListsWhatWouldDo) {
  const auto found = FindKernelTable("AVX2 ");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(found.status().message()),
              AllOf(HasSubstr("\"AVX2 \""), HasSubstr("auto, scalar, shift")));
}

TEST(KernelTable, EnvironmentForcesATable) {
  ASSERT_EQ(setenv("POT_KERNEL", "shift", 1), 0);
  EXPECT_EQ(KernelTableFromEnvironment().value()->name, "shift");
  ASSERT_EQ(setenv("POT_KERNEL", "abacus", 1), 0);
  EXPECT_EQ(KernelTableFromEnvironment().status().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(setenv("POT_KERNEL", "", 1), 0);
  EXPECT_EQ(KernelTableFromEnvironment().value(),
            FindKernelTable("auto").value());
  ASSERT_EQ(unsetenv("POT_KERNEL"), 0);
  EXPECT_EQ(KernelTableFromEnvironment().value(),
            FindKernelTable("auto").value());
}

}  // namespace
}  // namespace pot
