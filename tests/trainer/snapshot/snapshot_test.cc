#include "trainer/snapshot/snapshot.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::SizeIs;

struct State {
  std::vector<float> weights;
  std::vector<int64_t> counters;
  std::vector<uint8_t> flags;

  SnapshotTensors Tensors() const {
    return {{"weights", ViewOf(absl::MakeConstSpan(weights))},
            {"counters", ViewOf(absl::MakeConstSpan(counters))},
            {"flags", ViewOf(absl::MakeConstSpan(flags))}};
  }
  std::vector<SnapshotTarget> Targets() {
    return {TargetOf("flags", absl::MakeSpan(flags)),
            TargetOf("weights", absl::MakeSpan(weights)),
            TargetOf("counters", absl::MakeSpan(counters))};
  }
};

State Small() { return {{1.5f, -0.0f, 3e-40f}, {-1, int64_t{1} << 62}, {}}; }

std::string MustWrite(const std::string& directory, int64_t step,
                      const State& state) {
  const auto path = WriteSnapshot(directory, step, state.Tensors(),
                                  {{"config", "{\"lr\": 1}"}});
  EXPECT_TRUE(path.ok()) << path.status();
  return *path;
}

TEST(SnapshotTest, ReadsBackBitByBit) {
  TempDirectory directory;
  // Weights of two pieces and a bit.
  State state = {std::vector<float>((9 << 20) / 4), {7}, {1, 2, 3}};
  std::iota(state.weights.begin(), state.weights.end(), -5.0f);
  state.weights[3] = -0.0f;
  const std::string path = MustWrite(directory / "run", 12, state);
  EXPECT_EQ(path, directory / "run/step-12/snapshot.safetensors");

  State read = {std::vector<float>(state.weights.size()), {0}, {0, 0, 0}};
  SnapshotMetadata metadata;
  ASSERT_TRUE(ReadSnapshot(path, read.Targets(), &metadata).ok());
  EXPECT_EQ(ViewOf(absl::MakeConstSpan(read.weights)).bytes,
            ViewOf(absl::MakeConstSpan(state.weights)).bytes);
  EXPECT_EQ(read.counters, state.counters);
  EXPECT_EQ(read.flags, state.flags);
  EXPECT_THAT(metadata, testing::ElementsAre(Pair("config", "{\"lr\": 1}")));
  const auto opened = Snapshot::Open(directory / "run/step-12");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->step(), 12);

  // In the second piece.
  std::string bytes = ReadAll(path);
  bytes[bytes.size() - (3 << 20)] ^= 1;
  WriteAll(path, bytes);
  const absl::Status status = ReadSnapshot(path, read.Targets(), &metadata);
  ExpectError(status, absl::StatusCode::kDataLoss, "\"weights\"");
}

TEST(SnapshotTest, RefusesEveryCutAndEveryFlippedByte) {
  TempDirectory directory;
  const std::string path = MustWrite(directory.path(), 1, Small());
  const std::string bytes = ReadAll(path);
  State state = {{0, 0, 0}, {0, 0}, {}};
  SnapshotMetadata metadata;
  const auto reads = [&] {
    return ReadSnapshot(path, state.Targets(), &metadata).ok();
  };
  ASSERT_TRUE(reads());
  // In place: a file written anew takes much longer.
  const int file = open(path.c_str(), O_WRONLY);
  ASSERT_GE(file, 0);
  const auto write_byte = [&](size_t at, int byte) {
    ASSERT_EQ(pwrite(file, &byte, 1, static_cast<off_t>(at)), 1);
  };
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int mask : {0x01, 0x80}) {
      write_byte(i, bytes[i] ^ mask);
      EXPECT_FALSE(reads()) << "byte " << i << " xor " << mask;
    }
    write_byte(i, bytes[i]);
  }
  EXPECT_TRUE(reads());
  write_byte(bytes.size(), 'x');
  EXPECT_FALSE(reads()) << "one byte more";
  for (size_t size = bytes.size(); size-- > 0;) {
    ASSERT_EQ(ftruncate(file, static_cast<off_t>(size)), 0);
    EXPECT_FALSE(reads()) << "cut to " << size;
  }
  close(file);
}

TEST(SnapshotTest, RefusesAnotherRunsTensors) {
  TempDirectory directory;
  const std::string path = MustWrite(directory.path(), 1, Small());
  State state = {{9, 9, 9}, {0, 0}, {}};
  SnapshotMetadata metadata;
  const auto expect = [&](const std::vector<SnapshotTarget>& targets,
                          const std::string& part) {
    ExpectError(ReadSnapshot(path, targets, &metadata),
                absl::StatusCode::kFailedPrecondition, part);
  };
  std::vector<SnapshotTarget> targets = state.Targets();
  targets.pop_back();
  expect(targets, "\"counters\" is not expected");
  targets = state.Targets();
  targets.push_back(TargetOf("more", absl::MakeSpan(state.flags)));
  expect(targets, "\"more\" is missing");
  targets = state.Targets();
  targets[1].shape = {1, 3};
  expect(targets, "\"weights\" is F32[3], not F32[1, 3]");
  targets[1].shape = {3};
  targets[1].type = TensorType::kI32;
  expect(targets, "not I32[3]");
  EXPECT_EQ(state.weights, std::vector<float>(3, 9.0f));
}

TEST(SnapshotTest, RefusesToWriteNonsense) {
  TempDirectory directory;
  const auto code = absl::StatusCode::kInvalidArgument;
  ExpectError(WriteSnapshot(directory.path(), -1, {}, {}), code, "-1");
  ExpectError(WriteSnapshot(directory.path(), 1, {}, {{"snapshot.x", ""}}),
              code, "reserved");
  const State state = Small();
  SnapshotTensors twice = state.Tensors();
  twice.push_back(twice[0]);
  ExpectError(WriteSnapshot(directory.path(), 1, twice, {}), code, "twice");
  EXPECT_THAT(NamesIn(directory.path()), testing::IsEmpty());
  WriteAll(directory / "file", "");
  EXPECT_FALSE(WriteSnapshot(directory / "file", 1, {}, {}).ok());
}

TEST(LatestSnapshotTest, PassesOverTheDamagedAndPruneKeepsTheGood) {
  TempDirectory directory;
  const auto missing = absl::StatusCode::kNotFound;
  ExpectError(LatestSnapshot(directory / "none", nullptr), missing, "none");
  ExpectError(LatestSnapshot(directory.path(), nullptr), missing, "no whole");
  for (const int64_t step : {2, 9, 10, 30, 31}) {
    MustWrite(directory.path(), step, Small());
  }
  std::string bytes = ReadAll(directory / "step-30/snapshot.safetensors");
  bytes.back() ^= 1;  // contents: only Verify() sees it
  WriteAll(directory / "step-30/snapshot.safetensors", bytes);
  bytes[100] ^= 1;
  WriteAll(directory / "step-31/snapshot.safetensors", bytes);
  ASSERT_EQ(mkdir((directory / "step-40").c_str(), 0777), 0);
  ASSERT_EQ(mkdir((directory / "step-050").c_str(), 0777), 0);
  WriteAll(directory / "step-99", "");
  WriteAll(directory / "step-10/snapshot.safetensors.partial", "x");

  std::vector<std::string> warnings;
  auto latest = LatestSnapshot(directory.path(), &warnings);
  ASSERT_TRUE(latest.ok()) << latest.status();
  EXPECT_EQ(latest->step(), 10);
  ASSERT_THAT(warnings, SizeIs(3));
  EXPECT_THAT(warnings[0], HasSubstr("step 40"));
  EXPECT_THAT(warnings[1], HasSubstr("step 31"));
  EXPECT_THAT(warnings[2], HasSubstr("step 30"));

  // 30 opens; 31 and 40 do not; what is no snapshot's name is not touched.
  ASSERT_TRUE(PruneSnapshots(directory.path(), 2).ok());
  EXPECT_THAT(NamesIn(directory.path()),
              testing::UnorderedElementsAre("step-10", "step-30", "step-050",
                                            "step-99"));
  EXPECT_THAT(NamesIn(directory / "step-10"),
              testing::ElementsAre("snapshot.safetensors"));
  ExpectError(PruneSnapshots(directory.path(), 0),
              absl::StatusCode::kInvalidArgument, "not 0");
}

// What it writes at a step is a function of the step.
State StateOf(int64_t step) {
  State state = {std::vector<float>(100000, static_cast<float>(step)),
                 {step},
                 std::vector<uint8_t>(1000, static_cast<uint8_t>(step))};
  return state;
}

// Never returns. Steps 0, 0, 1, 1, 2, .. : every other write replaces one.
[[noreturn]] void WriteForever(const std::string& directory, int pipe) {
  for (int64_t i = 0;; ++i) {
    const int64_t step = i / 2;
    if (!WriteSnapshot(directory, step, StateOf(step).Tensors(), {}).ok() ||
        !PruneSnapshots(directory, 2).ok() ||
        write(pipe, &step, sizeof(step)) != sizeof(step)) {
      _exit(1);
    }
  }
}

TEST(SnapshotTest, SurvivesAKillAtAnyMoment) {
  for (int round = 0; round < 12; ++round) {
    TempDirectory directory;
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) WriteForever(directory.path(), ends[1]);
    close(ends[1]);
    // From the first finished write on, a time that differs by the round.
    int64_t finished = -1;
    ASSERT_EQ(read(ends[0], &finished, sizeof(finished)), sizeof(finished));
    usleep(1000 + 3373 * round);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended with " << status;
    int64_t step = 0;
    while (read(ends[0], &step, sizeof(step)) == sizeof(step)) finished = step;
    close(ends[0]);

    const auto latest = LatestSnapshot(directory.path(), nullptr);
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_GE(latest->step(), finished);
    EXPECT_LE(latest->step(), finished + 1);
    State state = StateOf(-1);
    ASSERT_TRUE(latest->Read(state.Targets()).ok());
    EXPECT_EQ(state.counters[0], latest->step());
    EXPECT_EQ(state.weights, StateOf(latest->step()).weights);
  }
}

}  // namespace
}  // namespace pot
