#include "client/cli/command.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A program with one command, "run", that has a flag of every kind.
class CommandTest : public ::testing::Test {
 protected:
  CommandTest() : app_("about", "program") {
    const Command program(&app_);
    program.RequireCommand();
    const Command run = program.AddCommand("run", "runs");
    run.AddFlag("text", &text_, "positional").Required();
    run.AddFlag("--names", &names_, "several").Delimiter(',');
    run.AddFlag("--prompt", &prompt_, "perhaps");
    run.AddFlag("--count", &count_, "int").InRange(1, 9).ShowDefault();
    run.AddFlag("--offset", &offset_, "int64").AtLeastZero();
    run.AddFlag("--seed", &seed_, "uint64").Positive();
    run.AddFlag("--ratio", &ratio_, "float").InFloatRange(0.5, 2);
    run.AddFlag("--memory", &memory_, "bytes").InBytes();
    run.AddFlag("--rate", &rate_, "double").TypeName("HZ");
    const Flag color =
        run.AddFlag("--color", &color_, "of few").OneOf({"red", "blue"});
    run.SetFlagGroup("Others");
    run.AddParsedFlag(
           "--even",
           [this](const std::string& value) {
             even_ = value;
             return value == "2" ? absl::OkStatus()
                                 : absl::InvalidArgumentError("is not two");
           },
           "parsed")
        .Excludes(color);
    run.AddListFlag(
        "--list",
        [this](const std::vector<std::string>& values) {
          list_ = values;
          return absl::OkStatus();
        },
        "one each time");
    run.AddSwitch("--on", &on_, "switch").Needs(run.FindFlag("--count"));
    run.AddListFlag(
           "--files",
           [this](const std::vector<std::string>& values) {
             files_ = values;
             return absl::OkStatus();
           },
           "many at a time")
        .TakesMany();
    run.AddFlag("--home", &home_, "variable")
        .Environment("POT_COMMAND_TEST_HOME")
        .Description("described");
    run.AddSwitch(
        "--level", [this](int64_t count) { level_ = count; }, "counted");
    run.OnSelected([this] { ++selected_; });
  }

  // Empty, or what is wrong.
  std::string Parse(std::vector<std::string> arguments) {
    std::reverse(arguments.begin(), arguments.end());
    try {
      app_.parse(arguments);
    } catch (const CLI::ParseError& error) {
      return error.what();
    }
    return "";
  }

  CLI::App app_;
  std::string text_, color_, even_, home_;
  std::vector<std::string> names_, list_, files_;
  std::optional<std::string> prompt_;
  int count_ = 3;
  int64_t offset_ = -1, memory_ = 0, level_ = 0;
  uint64_t seed_ = 0;
  float ratio_ = 1;
  double rate_ = 0;
  bool on_ = false;
  int selected_ = 0;
};

TEST_F(CommandTest, FillsVariables) {
  EXPECT_EQ(Parse({"run",      "--list",   "a",      "word",      "--names",
                   "x,y",      "--prompt", "",       "--count=9", "--offset",
                   "0",        "--seed",   "7",      "--ratio",   "0.5",
                   "--memory", "2KiB",     "--rate", "1e3",       "--color",
                   "blue",     "--list",   "b,c",    "--on",      "--level",
                   "--level"}),
            "");
  EXPECT_EQ(selected_, 1);
  EXPECT_EQ(text_, "word");
  EXPECT_THAT(names_, ElementsAre("x", "y"));
  EXPECT_EQ(prompt_, "");
  EXPECT_EQ(count_, 9);
  EXPECT_EQ(offset_, 0);
  EXPECT_EQ(seed_, 7u);
  EXPECT_EQ(ratio_, 0.5f);
  EXPECT_EQ(memory_, 2048);
  EXPECT_EQ(rate_, 1000);
  EXPECT_EQ(color_, "blue");
  EXPECT_THAT(list_, ElementsAre("a", "b,c"));
  EXPECT_TRUE(on_);
  EXPECT_EQ(level_, 2);
}

TEST_F(CommandTest, TakesManyAndFalseAndVariables) {
  setenv("POT_COMMAND_TEST_HOME", "here", 1);
  EXPECT_EQ(Parse({"run", "word", "--level=false", "--files", "a", "b"}), "");
  unsetenv("POT_COMMAND_TEST_HOME");
  EXPECT_THAT(files_, ElementsAre("a", "b"));
  EXPECT_EQ(level_, -1);
  EXPECT_EQ(home_, "here");
}

TEST_F(CommandTest, LeavesTheRestAlone) {
  EXPECT_EQ(Parse({"run", "word", "--even", "2"}), "");
  EXPECT_EQ(even_, "2");
  EXPECT_EQ(count_, 3);
  EXPECT_EQ(prompt_, std::nullopt);
  EXPECT_FALSE(on_);
  EXPECT_EQ(level_, 0);
}

TEST_F(CommandTest, RefusesAndSaysWhat) {
  const struct {
    std::vector<std::string> arguments;
    const char* fragment;
  } kCases[] = {
      {{}, "A subcommand is required"},
      {{"run"}, "text is required"},
      {{"run", "word", "--count", "10"}, "10 not in range 1 to 9"},
      {{"run", "word", "--offset", "-1"}, "--offset"},
      {{"run", "word", "--seed", "0"}, "--seed"},
      {{"run", "word", "--ratio", "2.5"}, "2.5 not in range 0.5"},
      {{"run", "word", "--ratio", "nan"}, "nan is not a number"},
      {{"run", "word", "--memory", "2 parsecs"}, "--memory"},
      {{"run", "word", "--color", "green"}, "green not in {red,blue}"},
      {{"run", "word", "--even", "3"}, "--even: is not two"},
      {{"run", "word", "--even", "2", "--color", "red"}, "excludes"},
      {{"run", "word", "--on"}, "requires --count"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(Parse(test.arguments), HasSubstr(test.fragment));
    EXPECT_EQ(selected_, 0);
  }
}

TEST_F(CommandTest, HelpShowsWhatWasSaid) {
  const std::string help = app_.get_subcommand("run")->help();
  for (const char* const text :
       {"runs", "--count INT:INT in [1 - 9]=3", "--rate HZ", "{red,blue}",
        "Others:", "Excludes: --color", "Needs: --count", "described"}) {
    EXPECT_THAT(help, HasSubstr(text));
  }
}

}  // namespace
}  // namespace pot
