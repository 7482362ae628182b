#include "launch/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr ParamInfo kStackParams[] = {
    {"width", ParamType::kInt, nullptr, "channels", 1},
    {"num_layers", ParamType::kInt, "2", "layers", 1},
    {"tied", ParamType::kBool, "false", "one matrix"},
};
constexpr ParamInfo kSoftmaxParams[] = {{"heads", ParamType::kInt, "8", "heads", 1}};
constexpr ParamInfo kAdamParams[] = {
    {"beta1", ParamType::kFloat, "0.9", "decay", 0, 1},
    {"mode", ParamType::kString, "plain", "which", -1, 1, "plain|fused"},
};
constexpr ParamInfo kTextParams[] = {{"path", ParamType::kString, nullptr, "file"}};

std::vector<Listing> Catalogue() {
  return {{"model", "stack", "layers", kStackParams},
          {"attention", "softmax", "exact", kSoftmaxParams},
          {"optimizer", "adamw", "AdamW", kAdamParams},
          {"optimizer", "sgd", "SGD", {}},
          {"lr_schedule", "constant", "one", {}},
          {"pipeline_schedule", "1f1b", "early", {}},
          {"kv_exchange", "all_gather", "all", {}},
          {"scan", "auto", "the fastest", {}},
          {"local_step", "plain", "the gradient", {}},
          {"dataset", "text", "bytes", kTextParams}};
}

constexpr char kRun[] = R"(# A run.
model {
  name: "stack"
  width: 64
  S { name: "softmax" heads: 4 }
}
data {
  dataset { name: "text" params { key: "path" value: "a.txt" } }
}
batch { global_batch_size: 8 }
num_steps: 100
learning_rate: 1e-3
groups { pattern: "*.gain" decay: false }
groups { pattern: "*" optimizer { name: "sgd" } lr_scale: 0.5 }
)";

StatusOr<LoadedConfig> Resolve(absl::string_view text, const std::vector<std::string>& sets,
                               int64_t num_ranks = 1) {
  ASSIGN_OR_RETURN(LoadedConfig loaded, ParseConfig("run.textproto", text, sets));
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
  return loaded;
}

std::string ErrorOf(absl::string_view text, const std::vector<std::string>& sets = {},
                    int64_t num_ranks = 1) {
  const StatusOr<LoadedConfig> loaded = Resolve(text, sets, num_ranks);
  return loaded.ok() ? "" : std::string(loaded.status().message());
}

std::string SetError(const std::string& assignment) { return ErrorOf(kRun, {assignment}); }

RunConfig ConfigOf(const std::vector<std::string>& sets, int64_t num_ranks = 1) {
  const StatusOr<LoadedConfig> loaded = Resolve(kRun, sets, num_ranks);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded.ok() ? loaded->config : RunConfig();
}

TEST(ConfigTest, ReadsFieldsParametersAndParts) {
  const RunConfig config = ConfigOf({});
  EXPECT_EQ(config.num_steps(), 100);
  EXPECT_EQ(config.learning_rate(), 1e-3);
  EXPECT_EQ(config.model().name(), "stack");
  EXPECT_EQ(config.model().params().at("width"), "64");
  EXPECT_EQ(config.model().params().at("num_layers"), "2");  // The table's default.
  EXPECT_EQ(config.model().parts().at("S").params().at("heads"), "4");
  EXPECT_EQ(config.data().dataset().params().at("path"), "a.txt");
  ASSERT_EQ(config.groups_size(), 2);
  EXPECT_EQ(config.groups(0).pattern(), "*.gain");
  EXPECT_FALSE(config.groups(0).decay());
  EXPECT_FALSE(config.groups(1).has_decay());
  EXPECT_EQ(config.groups(1).optimizer().name(), "sgd");
}

TEST(ConfigTest, CompletesDefaults) {
  const RunConfig config = ConfigOf({}, /*num_ranks=*/4);
  EXPECT_EQ(config.seed(), 1);
  EXPECT_EQ(config.dtype(), "f32");
  EXPECT_EQ(config.optimizer().params().at("beta1"), "0.9");
  EXPECT_EQ(config.mesh().replica(), 4);
  EXPECT_EQ(config.batch().micro_batch_size(), 2);
}

TEST(ConfigTest, AcceptsTheFormsOfTextProto) {
  const std::string text = std::string(kRun) +
                           "groups: [{pattern: 'a' 'b', decay: true}, <pattern: \"c\";>]; "
                           "mesh: { replica: 1 }, clip_norm: -0";
  const StatusOr<LoadedConfig> loaded = Resolve(text, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->config.groups_size(), 4);
  EXPECT_EQ(loaded->config.groups(2).pattern(), "ab");
  EXPECT_EQ(loaded->config.groups(3).pattern(), "c");
}

// Each text is read alone: what is wrong comes before what is missing.
TEST(ConfigTest, OneLineForEachMistake) {
  const std::pair<const char*, const char*> cases[] = {
      {"seed: 1\nbacth { }",
       "run.textproto:2:1: RunConfig: unknown key 'bacth'; did you mean 'batch'?"},
      {"mesh { tensr: 2 }",
       "run.textproto:1:8: RunConfig.Mesh: unknown key 'tensr'; did you mean 'tensor'?"},
      {"num_steps: \"abc\"", "run.textproto:1:12: num_steps: expected an integer, got \"abc\""},
      {"num_steps: 1.5", "run.textproto:1:12: num_steps: expected an integer, got '1.5'"},
      {"num_steps: 99999999999999999999",
       "run.textproto:1:12: num_steps: expected an integer, got '99999999999999999999'"},
      {"batch {\n  global_batch_size: true }",
       "run.textproto:2:22: batch.global_batch_size: expected an integer, got 'true'"},
      {"learning_rate: nan", "run.textproto:1:16: learning_rate: expected a number, got 'nan'"},
      {"learning_rate: 1e999", "run.textproto:1:16: learning_rate: expected a number, got '1e999'"},
      {"recompute: 1", "run.textproto:1:12: recompute: expected true or false, got '1'"},
      {"dtype: f32", "run.textproto:1:8: dtype: expected a string in quotes, got 'f32'"},
      {"seed: 1 seed: 2",
       "run.textproto:1:9: duplicate key 'seed', first given at run.textproto:1:1"},
      {"mesh { } mesh { }",
       "run.textproto:1:10: duplicate key 'mesh', first given at run.textproto:1:1"},
      {"optimizer { beta1: 0.9 params { key: \"beta1\" value: \"1\" } }",
       "run.textproto:1:24: duplicate key 'optimizer.beta1', first given at run.textproto:1:13"},
      {"model { parts { key: 'S' value { name: 'a' } } S { name: 'b' } }",
       "run.textproto:1:48: duplicate key 'model.S', first given at run.textproto:1:9"},
      {"optimizer { params { key: \"beta1\" } }",
       "run.textproto:1:20: params: an entry needs a key and a value"},
      {"mesh { replica: 1", "run.textproto:1:6: '{' without its '}'"},
      {"mesh < replica: 1 }", "run.textproto:1:19: expected a key, got '}'"},
      {"groups: [ { pattern: \"*\" }",
       "run.textproto:1:27: groups: expected ',' or ']', got the end"},
      {"groups: [", "run.textproto:1:9: '[' without its ']'"},
      {"groups: [ 1 ]", "run.textproto:1:11: groups: expected '{', got '1'"},
      {"mesh: 4", "run.textproto:1:7: mesh: expected '{', got '4'"},
      {"seed 4", "run.textproto:1:6: seed: expected ':', got '4'"},
      {"seed:", "run.textproto:1:6: seed: expected a value, got the end"},
      {"seed: - \"a\"", "run.textproto:1:9: seed: expected a value, got '\"a\"'"},
      {"optimizer { beta1 0.9 }", "run.textproto:1:19: beta1: expected ':' or '{', got '0.9'"},
      {"42: 1", "run.textproto:1:1: expected a key, got '42'"},
      {"dtype: \"f32", "run.textproto:1:12: Unexpected end of string."},
  };
  for (const auto& [text, error] : cases) EXPECT_EQ(ErrorOf(text), error) << text;
}

TEST(ConfigTest, NestingIsLimited) {
  std::string text = "model ";
  for (int i = 0; i < 10000; ++i) text += "{ a ";
  EXPECT_THAT(ErrorOf(text), HasSubstr("nested too deep"));
}

TEST(ConfigTest, ErrorsOfValuesNamePlaceAndNearestName) {
  const auto with = [](absl::string_view line) { return std::string(kRun) + std::string(line); };
  EXPECT_EQ(ErrorOf(""), "batch.global_batch_size: is required");
  EXPECT_EQ(ErrorOf(with("dtype: \"f23\"")),
            "run.textproto:15:1: dtype: unknown dtype 'f23'; did you mean 'f32'?");
  EXPECT_EQ(
      ErrorOf(with("optimizer { name: \"adamv\" }")),
      "run.textproto:15:13: optimizer.name: unknown optimizer 'adamv'; did you mean 'adamw'?");
  EXPECT_EQ(ErrorOf(with("optimizer { bta1: 0.5 }")),
            "run.textproto:15:13: optimizer.bta1: adamw: unknown parameter 'bta1'; "
            "did you mean 'beta1'?");
  EXPECT_EQ(ErrorOf(with("optimizer { beta1: 1.5 }")),
            "run.textproto:15:13: adamw: beta1 = 1.5 is outside [0, 1]");
  EXPECT_EQ(ErrorOf(with("optimizer { base { name: \"sgd\" } }")),
            "run.textproto:15:13: optimizer.base: adamw has no parts");
  EXPECT_EQ(SetError("model.S.name=sofmax"),
            "--set: model.S.name: unknown attention 'sofmax'; did you mean 'softmax'?");
  EXPECT_EQ(SetError("model.F.heads=2"), "model.F: needs a name; attention has softmax");
  EXPECT_EQ(SetError("num_steps=0"), "--set: num_steps: 0 is outside >= 1");
  EXPECT_EQ(SetError("seed=-1"), "--set: seed: -1 is outside >= 0");
  EXPECT_EQ(SetError("data.sequence_length=99999999"),
            "--set: data.sequence_length: 99999999 is outside [1, 1e+07]");
  EXPECT_EQ(SetError("run_dir="), "--set: run_dir: is empty");
  EXPECT_EQ(SetError("groups.0.pattern="), "run.textproto:13:1: groups.0: needs a pattern");
  EXPECT_EQ(SetError("optimizer.mode=fussed"),
            "--set: adamw: unknown value of mode 'fussed'; did you mean 'fused'?");
}

TEST(ConfigTest, MissingParameterNamesTheComponentsPlace) {
  std::string text = kRun;
  text.erase(text.find("  width: 64\n"), 12);
  EXPECT_EQ(ErrorOf(text), "run.textproto:2:1: stack: width is required (channels)");
}

TEST(ConfigTest, ImpossibleMeshes) {
  EXPECT_EQ(ErrorOf(kRun, {"mesh.pipeline=2", "mesh.tensor=4"}, 4),
            "--set: mesh pipeline=2 tensor=4 needs a multiple of 8 ranks, world has 4");
  EXPECT_EQ(ErrorOf(kRun, {"mesh.replica=2"}, 4),
            "--set: mesh replica=2 needs 2 ranks, world has 4");
  EXPECT_EQ(ErrorOf(kRun, {"mesh.replica=1"}, 2),
            "--set: mesh replica=1 needs 1 rank, world has 2");
  EXPECT_EQ(ErrorOf(kRun, {"mesh.shard=9223372036854775807", "mesh.tensor=2"}, 2),
            "--set: mesh shard=9223372036854775807 tensor=2 needs a multiple of "
            "9223372036854775807 ranks, world has 2");
}

TEST(ConfigTest, IndivisibleBatches) {
  EXPECT_EQ(ErrorOf(kRun, {}, 3),
            "run.textproto:10:9: batch.global_batch_size: 8 is not divisible by the 3 replicas");
  EXPECT_EQ(ErrorOf(kRun, {"batch.micro_batch_size=3"}, 2),
            "--set: batch.micro_batch_size: 3 does not divide the 4 samples of a rank's share "
            "(global_batch_size 8 / 2)");
  EXPECT_EQ(ErrorOf(kRun, {"mesh.shard=3", "mesh.replica=1"}, 3),
            "run.textproto:10:9: batch.global_batch_size: 8 is not divisible by replica=1 times "
            "shard=3");
}

TEST(ConfigTest, SetReachesEveryType) {
  const RunConfig config = ConfigOf(
      {"num_steps=7", "learning_rate=0.25", "recompute=true", "dtype=bf16", "optimizer.beta1=0.5",
       "model.width=256", "model.S.heads=2", "groups.1.lr_scale=2", "groups.1.optimizer.name=adamw",
       "mesh.replica=2", "data.dataset.path=b=c.txt", "num_steps=9"},
      2);
  EXPECT_EQ(config.num_steps(), 9);  // The last one.
  EXPECT_EQ(config.learning_rate(), 0.25);
  EXPECT_TRUE(config.recompute());
  EXPECT_EQ(config.dtype(), "bf16");
  EXPECT_EQ(config.optimizer().params().at("beta1"), "0.5");
  EXPECT_EQ(config.model().params().at("width"), "256");
  EXPECT_EQ(config.model().parts().at("S").params().at("heads"), "2");
  EXPECT_EQ(config.groups(1).lr_scale(), 2);
  EXPECT_EQ(config.groups(1).optimizer().name(), "adamw");
  EXPECT_EQ(config.data().dataset().params().at("path"), "b=c.txt");
}

TEST(ConfigTest, ErrorsOfSet) {
  EXPECT_EQ(SetError("num_steps"),
            "--set num_steps: expected path=value, as in --set num_steps=100");
  EXPECT_EQ(
      SetError("bacth.micro_batch_size=1"),
      "--set bacth.micro_batch_size=1: RunConfig: unknown key 'bacth'; did you mean 'batch'?");
  EXPECT_EQ(SetError("mesh.tensr=1"),
            "--set mesh.tensr=1: RunConfig.Mesh: unknown key 'tensr'; did you mean 'tensor'?");
  EXPECT_EQ(SetError("num_steps=many"), "--set num_steps=many: expected an integer, got 'many'");
  EXPECT_EQ(SetError("recompute=yes"), "--set recompute=yes: expected true or false, got 'yes'");
  EXPECT_EQ(SetError("mesh=2"), "--set mesh=2: mesh is a message; give one of its keys");
  EXPECT_EQ(SetError("seed.x=2"), "--set seed.x=2: seed is a value, not a message");
  EXPECT_EQ(SetError("groups.2.decay=true"),
            "--set groups.2.decay=true: groups has 2 entries; '2' is not the index of one");
  EXPECT_EQ(SetError("groups.0=1"), "--set groups.0=1: 0 is a message; give one of its keys");
  EXPECT_EQ(SetError("groups=1"), "--set groups=1: groups is a message; give one of its keys");
  EXPECT_EQ(SetError("optimizer.params.beta1=1"),
            "--set optimizer.params.beta1=1: paths leave out 'params', as in optimizer.beta1");
  EXPECT_EQ(SetError("optimizer..beta1=1"), "--set optimizer..beta1=1: the path has an empty part");
  EXPECT_EQ(SetError("=1"), "--set =1: the path has an empty part");
}

TEST(ConfigTest, PrintNamesOrigins) {
  const StatusOr<LoadedConfig> loaded = Resolve(kRun, {"seed=3", "optimizer.beta1=0.5"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::string text = PrintConfig(*loaded, /*with_origins=*/true);
  EXPECT_THAT(text, ::testing::ContainsRegex("seed: 3 +# --set\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("num_steps: 100 +# run.textproto:11:1\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("dtype: \"f32\" +# default\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("beta1: \"0.5\" +# --set\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("heads: \"4\" +# run.textproto:5:23\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("path: \"a.txt\" +# run.textproto:8:26\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("replica: 1 +# default\n"));
}

TEST(ConfigTest, PrintedConfigReadsBack) {
  const StatusOr<LoadedConfig> loaded =
      Resolve(kRun, {"data.dataset.path=\"\\\n\t\x01\xc3\xa9", "learning_rate=0.1"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  LoadedConfig copy = *loaded;
  (*copy.config.mutable_optimizer()->mutable_params())["a b"] = "1";
  (*copy.config.mutable_model()->mutable_parts())["1"].set_name("x");
  for (const bool with_origins : {false, true}) {
    const StatusOr<LoadedConfig> again = ParseConfig("p", PrintConfig(copy, with_origins), {});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(PrintConfig(*again, false), PrintConfig(copy, false));
  }
}

TEST(ConfigTest, HashCoversWhatDecidesTheNumbers) {
  const std::string hash = ConfigHash(ConfigOf({}));
  EXPECT_EQ(hash.size(), 16u);
  for (const char* same : {"num_steps=200", "run_dir=other", "log_every=3", "threads=2",
                           "checkpoint.every=5", "recompute=true", "batch.micro_batch_size=2",
                           "optimizer.beta1=0.9", "model.num_layers=2"}) {
    EXPECT_EQ(ConfigHash(ConfigOf({same})), hash) << same;
  }
  EXPECT_EQ(ConfigHash(ConfigOf({}, 4)), hash);
  for (const char* other :
       {"seed=2", "dtype=f64", "model.width=65", "model.S.heads=2", "optimizer.beta1=0.8",
        "learning_rate=0.1", "clip_norm=2", "batch.global_batch_size=16", "data.sequence_length=8",
        "groups.0.decay=true", "init_from=runs/teacher"}) {
    EXPECT_NE(ConfigHash(ConfigOf({other})), hash) << other;
  }
}

TEST(ConfigTest, DifferencesNameBothValues) {
  EXPECT_THAT(ConfigDifferences(ConfigOf({}), ConfigOf({"num_steps=3"})), IsEmpty());
  EXPECT_THAT(ConfigDifferences(ConfigOf({}), ConfigOf({"optimizer.beta1=0.5", "seed=2"})),
              ElementsAre("optimizer.beta1 (0.9 there, 0.5 here)", "seed (1 there, 2 here)"));
}

TEST(ConfigTest, AbsentFileIsNamed) {
  const Status status = LoadConfig("/nonexistent/x.textproto", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("/nonexistent/x.textproto"), HasSubstr("No such file")));
}

}  // namespace
}  // namespace trireme
