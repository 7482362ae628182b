// The program itself: exit codes, what it prints where, refusals, a run that is stopped and goes
// on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "core/base/log.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "launch/catalogue.h"
#include "launch/command_line.h"
#include "launch/run_dir.h"
#include "tests/launch/program.h"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kTiny[] = TRIREME_SOURCE_DIR "/examples/configs/tiny.textproto";

Result Invoke(std::vector<std::string> args, std::vector<std::string> environment = {}) {
  args.insert(args.begin(), TRIREME_PROGRAM);
  return RunToEnd(std::move(args), std::move(environment));
}

// `train` of the tiny config into `run_dir`, one thread a rank.
std::vector<std::string> Train(const std::string& run_dir, const std::vector<std::string>& more) {
  std::vector<std::string> args = {"train", "--config",  kTiny, "--run_dir",
                                   run_dir, "--threads", "1"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

std::string FreshRunDir(absl::string_view name) {
  const std::string path = TestPath(name);
  CHECK_OK(RemoveTree(path));
  return path;
}

// The steps of the lines of metrics.jsonl that have `key`, each line checked to be JSON.
std::vector<int64_t> StepsWith(const std::string& run_dir, absl::string_view key) {
  std::vector<int64_t> steps;
  const std::string text = *ReadFile(MetricsPath(run_dir));
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const StatusOr<Json> json = ParseJson(line);
    EXPECT_TRUE(json.ok()) << line;
    if (json.ok() && json->Find(key) != nullptr) {
      steps.push_back(*json->Find("step")->As<int64_t>());
    }
  }
  return steps;
}

std::vector<int64_t> Range(int64_t first, int64_t last) {
  std::vector<int64_t> range;
  for (int64_t i = first; i <= last; ++i) range.push_back(i);
  return range;
}

TEST(CliTest, UsageAndVersion) {
  EXPECT_EQ(Invoke({}).code, kExitUsage);
  EXPECT_THAT(Invoke({}).err, HasSubstr("usage: trireme COMMAND"));
  for (const char* help : {"help", "--help"}) {
    EXPECT_EQ(Invoke({help}).code, kExitDone);
    EXPECT_THAT(Invoke({help}).out, HasSubstr("75 saved a checkpoint"));
  }
  for (const char* version : {"version", "--version"}) {
    EXPECT_EQ(Invoke({version}).code, kExitDone);
    EXPECT_THAT(Invoke({version}).out, ContainsRegex("^trireme [0-9]+[.][0-9]+[.][0-9]+, "));
  }
  const Result wrong = Invoke({"trian"});
  EXPECT_EQ(wrong.code, kExitUsage);
  EXPECT_EQ(wrong.err,
            "trireme: INVALID_ARGUMENT: unknown command 'trian'; did you mean 'train'?\n");
}

TEST(CliTest, EveryCommandHasHelpWithAnExample) {
  for (const char* command : {"train", "eval", "tokenize", "list", "schedule", "mesh", "sync", "code", "verify"}) {
    const Result help = Invoke({command, "--help"});
    EXPECT_EQ(help.code, kExitDone);
    EXPECT_THAT(help.out, AllOf(HasSubstr("usage: trireme"), HasSubstr("example:\n"))) << command;
    const Result wrong = Invoke({command, "--hlep"});
    EXPECT_EQ(wrong.code, kExitUsage);
    EXPECT_THAT(wrong.err, HasSubstr("did you mean '--help'?"));
  }
}

TEST(CliTest, MissingArgumentsAreUsageErrors) {
  EXPECT_EQ(Invoke({"train"}).code, kExitUsage);
  EXPECT_EQ(Invoke({"eval"}).code, kExitUsage);
  EXPECT_EQ(Invoke({"tokenize", "x"}).code, kExitUsage);
  EXPECT_EQ(Invoke({"tokenize"}).code, kExitUsage);
  EXPECT_EQ(Invoke({"train", "--config", kTiny, "--ranks", "0"}).code, kExitUsage);
}

TEST(ListTest, PrintsWhatIsRegistered) {
  const std::vector<Listing> catalogue = Catalogue();
  EXPECT_EQ(Invoke({"list"}).out, FormatCatalogue(catalogue, ""));
  for (const std::string& family : Families(catalogue)) {
    const Result list = Invoke({"list", family});
    EXPECT_EQ(list.code, kExitDone);
    for (const Listing& entry : catalogue) {
      if (entry.family != family) continue;
      EXPECT_THAT(list.out, HasSubstr(absl::StrCat("  ", entry.name, " ")));
      EXPECT_THAT(list.out, HasSubstr(entry.doc));
      for (const ParamInfo& info : entry.params) {
        EXPECT_THAT(list.out, HasSubstr(absl::StrCat("    ", info.key, " ")));
        EXPECT_THAT(list.out, HasSubstr(info.doc));
      }
    }
  }
  EXPECT_THAT(Invoke({"list", "optimizer"}).out,
              ContainsRegex("    beta1 +[^\n]*number \\[0, 1\\]; "));
  const Result wrong = Invoke({"list", "optimzer"});
  EXPECT_EQ(wrong.code, kExitUsage);
  EXPECT_THAT(wrong.err, HasSubstr("unknown family 'optimzer'; did you mean 'optimizer'?"));
}

TEST(ListTest, EveryNameIsOnceInItsFamilyAndDocumented) {
  std::set<std::pair<std::string, std::string>> names;
  for (const Listing& entry : Catalogue()) {
    EXPECT_TRUE(names.insert({entry.family, entry.name}).second) << entry.name;
    EXPECT_FALSE(entry.doc.empty()) << entry.name;
    // A default that its own table refuses would be a lie.
    ParamMap given;
    for (const ParamInfo& info : entry.params) {
      if (info.default_value != nullptr) given[info.key] = info.default_value;
    }
    const Status status = Params::Create(entry.name, entry.params, given).status();
    EXPECT_TRUE(status.ok() || absl::StrContains(status.message(), "is required")) << status;
  }
}

// "LinearCrossEntropy" and "linear_cross_entropy" -> "linearcrossentropy"
std::string Folded(absl::string_view name) {
  std::string folded;
  for (const char c : name) {
    if (c != '_') folded += absl::ascii_tolower(c);
  }
  return folded;
}

TEST(ListTest, TheOperationsAreThoseOfTheHeader) {
  std::set<std::string> declared, listed;
  const std::string header = *ReadFile(TRIREME_SOURCE_DIR "/core/ops/ops.h");
  for (absl::string_view line : absl::StrSplit(header, '\n')) {
    if (absl::ConsumePrefix(&line, "Tensor ") || absl::ConsumePrefix(&line, "RecurrenceOutputs ")) {
      declared.insert(Folded(line.substr(0, line.find('('))));
    }
  }
  for (const Listing& entry : Catalogue()) {
    if (entry.family == "op") listed.insert(Folded(entry.name));
  }
  EXPECT_EQ(listed, declared);
  EXPECT_GT(declared.size(), 40u);
}

TEST(TrainCliTest, ConfigErrorsAreOneLineAndStartNothing) {
  const std::string run_dir = FreshRunDir("config_error");
  const Result wrong = Invoke(Train(run_dir, {"--set", "optimizer.bta1=0.5"}));
  EXPECT_EQ(wrong.code, kExitError);
  EXPECT_EQ(wrong.err,
            "trireme: INVALID_ARGUMENT: --set: optimizer.bta1: adamw: unknown parameter 'bta1'; "
            "did you mean 'beta1'?\n");
  EXPECT_EQ(wrong.out, "");
  EXPECT_FALSE(PathExists(run_dir));
}

TEST(TrainCliTest, ModelErrorsAreOneLine) {
  const Result wrong = Invoke(Train(FreshRunDir("model_error"), {"--set", "model.S.heads=5"}));
  EXPECT_EQ(wrong.code, kExitError);
  EXPECT_EQ(std::count(wrong.err.begin(), wrong.err.end(), '\n'), 1) << wrong.err;
}

// Whatever does not fit, one line says so and names the sizes, before a step is made.
TEST(TrainCliTest, LayoutsThatDoNotFitAreOneLine) {
  struct Case {
    int num_ranks;
    std::vector<std::string> assignments;
    std::string message;
  };
  const Case cases[] = {
      {4, {"mesh.tensor=3"}, "mesh tensor=3 needs a multiple of 3 ranks, world has 4"},
      {8, {"mesh.pipeline=2", "mesh.tensor=2", "mesh.replica=1"}, "needs 4 ranks, world has 8"},
      {2, {"mesh.pipeline=-1"}, "mesh.pipeline: -1 is outside >= 1"},
      {2, {"mesh.zero_stage=4"}, "mesh.zero_stage: 4 is outside [1, 3]"},
      {2, {"batch.global_batch_size=3"}, "3 is not divisible by the 2 replicas"},
      {8, {"mesh.tensor=8"}, "cannot be shared equally over tensor=8"},
      {4, {"mesh.tensor=4", "model.mlp_width=3"}, "mlp_width = 3 cannot be cut over tensor=4"},
      {8, {"mesh.pipeline=8"}, "a model of 4 units has no 8 pipeline stages"},
      {4,
       {"mesh.pipeline=4", "mesh.units_of_stage=1,2,1"},
       "3 stages of 4 units; the pipeline has 4 stages, the model 4 units"},
      {4,
       {"mesh.pipeline=4", "pipeline_schedule.name=zb_v"},
       "a model of 4 units has no 8 pipeline stages"},
      {2, {"mesh.pipeline=2", "pipeline_schedule.chunks=2"}, "1f1b: chunks = 2 is outside [1, 1]"},
      {4,
       {"mesh.sequence=4", "data.sequence_length=3"},
       "sequence length 3 is shorter than the sequence axis of 4 ranks"},
      {4,
       {"mesh.sequence=4", "kv_exchange.name=ulysses", "model.S.heads=2"},
       "ulysses over 4 ranks cannot cut 2 heads"},
  };
  for (const Case& c : cases) {
    const std::string run_dir = FreshRunDir("layout");
    std::vector<std::string> more = {"--ranks", absl::StrCat(c.num_ranks)};
    for (const std::string& assignment : c.assignments)
      more.insert(more.end(), {"--set", assignment});
    const absl::Time begin = absl::Now();
    const Result refused = Invoke(Train(run_dir, more));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
    EXPECT_EQ(refused.code, kExitError) << c.message;
    int errors = 0;
    for (const absl::string_view line : absl::StrSplit(refused.err, '\n')) {
      errors += absl::StartsWith(line, "trireme: INVALID_ARGUMENT: ");
    }
    EXPECT_EQ(errors, 1) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr(c.message));
    EXPECT_FALSE(PathExists(MetricsPath(run_dir))) << c.message;
  }
}

TEST(TrainCliTest, ImagesAreNotCutOverTokensOrColumns) {
  const std::string images = TestPath("images.idx"), labels = TestPath("labels.idx");
  const auto header = [](char dims, std::initializer_list<char> sizes) {
    std::string text = {0, 0, 8, dims};
    for (const char size : sizes) text += std::string({0, 0, 0, size});
    return text;
  };
  CHECK_OK(WriteFileAtomically(images, header(3, {40, 2, 2}) + std::string(160, 'x')));
  CHECK_OK(WriteFileAtomically(labels, header(1, {40}) + std::string(40, 1)));
  for (const auto& [axis, message] : {std::pair("sequence", "mesh sequence=2: images are not cut"),
                                      std::pair("tensor", "mlp: cannot be cut over tensor=2")}) {
    const Result refused =
        Invoke({"train", "--config", TRIREME_SOURCE_DIR "/examples/configs/verify_mlp.textproto",
                "--ranks", "2", "--run_dir", FreshRunDir("images"), "--set",
                "data.dataset.images=" + images, "--set", "data.dataset.labels=" + labels, "--set",
                absl::StrCat("mesh.", axis, "=2")});
    EXPECT_EQ(refused.code, kExitError);
    EXPECT_THAT(refused.err, HasSubstr(message));
  }
}

TEST(TrainCliTest, PrintConfigShowsOriginsAndStartsNothing) {
  const std::string run_dir = FreshRunDir("print");
  const Result print = Invoke(Train(run_dir, {"--print-config", "--ranks", "2"}));
  EXPECT_EQ(print.code, kExitDone);
  EXPECT_THAT(print.out, ContainsRegex("replica: 2 +# default\n"));
  EXPECT_THAT(print.out, ContainsRegex("threads: 1 +# --set\n"));
  EXPECT_THAT(print.out, ContainsRegex("width: \"32\" +# [^\n]*tiny.textproto:[0-9]+:3\n"));
  EXPECT_FALSE(PathExists(run_dir));
  EXPECT_EQ(Invoke(Train(run_dir, {"--print-config", "--set", "x=1"})).code, kExitError);
}

TEST(TrainCliTest, LaunchersThatDoNotMatchAreRefused) {
  const std::string run_dir = FreshRunDir("refused");
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE=4", "PMI_SIZE=4", "SLURM_STEP_NUM_TASKS=4"}) {
    const Result threads = Invoke(Train(run_dir, {"--ranks", "2"}), {variable});
    EXPECT_EQ(threads.code, kExitUsage) << variable;
    EXPECT_THAT(threads.err, HasSubstr(absl::StrCat("(", variable, "); leave --ranks out")));
  }
  // MPI starts alone, in a world of one, whatever the variable says.
  const Result alone = Invoke(Train(run_dir, {}), {"SLURM_STEP_NUM_TASKS=4"});
  EXPECT_EQ(alone.code, kExitError);
  EXPECT_THAT(alone.err, HasSubstr("the world has 1 rank but the launcher started 4"));
  EXPECT_FALSE(PathExists(run_dir));
  EXPECT_EQ(Invoke(Train(run_dir, {"--single", "--set", "num_steps=1"}), {"PMI_SIZE=4"}).code,
            kExitDone);
}

TEST(TrainCliTest, ARunGoesOnWhereItEnded) {
  const std::string run_dir = FreshRunDir("resumed");
  const std::vector<std::string> ranks = {"--ranks", "2"};
  const auto train = [&](std::vector<std::string> more) {
    more.insert(more.end(), ranks.begin(), ranks.end());
    return Invoke(Train(run_dir, more));
  };
  const Result first = train({"--set", "num_steps=12"});
  ASSERT_EQ(first.code, kExitDone) << first.err;
  EXPECT_THAT(first.out, AllOf(HasSubstr("step 1/12"), HasSubstr("done: 12 steps"),
                               HasSubstr(MetricsPath(run_dir)), Not(HasSubstr("\r"))));
  EXPECT_EQ(StepsWith(run_dir, "loss"), Range(1, 12));
  EXPECT_EQ(StepsWith(run_dir, "validation_loss"), (std::vector<int64_t>{10, 12}));
  for (const int rank : {0, 1}) {
    EXPECT_THAT(*ReadFile(RankLogPath(run_dir, rank)), HasSubstr("step 12/12")) << rank;
  }

  EXPECT_THAT(train({"--resume", "never"}).err, HasSubstr("holds a run"));
  EXPECT_THAT(train({"--set", "seed=2"}).err, HasSubstr("seed (1 there, 2 here)"));
  const Result second = train({"--set", "num_steps=15"});
  ASSERT_EQ(second.code, kExitDone) << second.err;
  EXPECT_EQ(StepsWith(run_dir, "loss"), Range(1, 15));
  EXPECT_THAT(*ReadFile(ConfigPath(run_dir)), HasSubstr("num_steps: 15"));

  const Result evaluated = Invoke({"eval", "--checkpoint", run_dir, kTiny, "--ranks", "2"});
  EXPECT_EQ(evaluated.code, kExitDone) << evaluated.err;
  EXPECT_THAT(evaluated.out, ContainsRegex("loss [0-9.]+ over [0-9]+ labels, [0-9.]+ bits"));
}

TEST(TrainCliTest, ASignalSavesAndEnds) {
  const std::string run_dir = FreshRunDir("stopped");
  std::vector<std::string> args =
      Train(run_dir, {"--ranks", "2", "--set", "num_steps=1000000", "--set", "evaluation.every=0",
                      "--set", "checkpoint.every=0"});
  args.insert(args.begin(), TRIREME_PROGRAM);
  Program program(args, {});
  const auto under_way = [&] {
    const StatusOr<std::string> metrics = ReadFile(MetricsPath(run_dir));
    return metrics.ok() && !metrics->empty();
  };
  for (int i = 0; i < 1200 && !under_way(); ++i) absl::SleepFor(absl::Milliseconds(50));
  ASSERT_TRUE(under_way()) << program.err();
  program.Signal(SIGUSR1);
  EXPECT_EQ(program.Wait(), kExitStopped) << program.err();
  EXPECT_THAT(program.out(), HasSubstr("stopped by SIGUSR1"));
  const int64_t stopped_at = StepsWith(run_dir, "loss").back();
  const Result resumed =
      Invoke(Train(run_dir, {"--set", absl::StrCat("num_steps=", stopped_at + 2)}));
  EXPECT_EQ(resumed.code, kExitDone) << resumed.err;
  EXPECT_EQ(StepsWith(run_dir, "loss"), Range(1, stopped_at + 2));
}

// The program on two ranks that are processes.
Result InvokeMpi(const std::vector<std::string>& args) {
  std::vector<std::string> all = absl::StrSplit(TRIREME_MPIEXEC, '|');
  all.push_back(TRIREME_PROGRAM);
  all.insert(all.end(), args.begin(), args.end());
  Program program(all, {});
  const int code = program.Wait();
  return {code, program.out(), program.err()};
}

// How many lines the program itself printed: the launcher has things to say as well.
int ErrorLines(const Result& result) {
  int lines = 0;
  for (const absl::string_view line : absl::StrSplit(result.err, '\n')) {
    lines += absl::StartsWith(line, "trireme: ");
  }
  return lines;
}

TEST(MpiCliTest, ARunOverProcesses) {
  const std::string run_dir = FreshRunDir("mpi");
  const Result run = InvokeMpi(Train(run_dir, {"--set", "num_steps=4"}));
  ASSERT_EQ(run.code, kExitDone) << run.err;
  // Open MPI gives ranks a pseudo-terminal; its own output is a file here.
  EXPECT_THAT(run.out, AllOf(HasSubstr("done: 4 steps"), Not(HasSubstr("\r"))));
  EXPECT_EQ(StepsWith(run_dir, "loss"), Range(1, 4));
  EXPECT_THAT(*ReadFile(ConfigPath(run_dir)), HasSubstr("replica: 2"));
  EXPECT_TRUE(PathExists(RankLogPath(run_dir, 1)));

  const Result again = InvokeMpi(Train(run_dir, {"--resume", "never"}));
  EXPECT_EQ(again.code, kExitError);
  EXPECT_THAT(again.err, HasSubstr("holds a run"));
  EXPECT_EQ(ErrorLines(again), 1) << again.err;
}

TEST(MpiCliTest, OneRankSaysWhatAllFound) {
  const std::string run_dir = FreshRunDir("mpi_errors");
  const Result config = InvokeMpi(Train(run_dir, {"--set", "num_steps=0"}));
  EXPECT_EQ(config.code, kExitError);
  EXPECT_EQ(ErrorLines(config), 1) << config.err;
  const Result usage = InvokeMpi(Train(run_dir, {"--stes", "num_steps=0"}));
  EXPECT_EQ(usage.code, kExitUsage);
  EXPECT_EQ(ErrorLines(usage), 1) << usage.err;
  const Result ranks = InvokeMpi(Train(run_dir, {"--ranks", "2"}));
  EXPECT_EQ(ranks.code, kExitUsage);
  EXPECT_EQ(ErrorLines(ranks), 1) << ranks.err;
  EXPECT_FALSE(PathExists(run_dir));
}

}  // namespace
}  // namespace trireme
