// A suite that proves layouts equal is worth what it notices. Every collective call and every
// declaration of a parameter goes wrong here, one at a time, in the smallest layouts that have it;
// each time a layout must differ from one rank, or end with an error. Sites are found by running,
// so that a new one is mutated at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/ops/devices.h"
#include "launch/agreement.h"
#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/verify_layouts.h"
#include "parallel/comm/local.h"
#include "tests/testing/mutating_communicator.h"

namespace trireme {
namespace {

using testing::CallMutator;
using testing::CallSite;
using testing::Mutation;
using testing::MutationName;
using testing::MutationsOf;
using Outcome = LayoutVerdict::Outcome;

// The sizes of verify.textproto in less data, and in no more layers than stages of `num_ranks`
// ranks need. `exchanges`: rows of what replicas exchange.
LoadedConfig SmallConfig(int num_ranks, const std::vector<std::string>& more = {},
                         const std::string& exchanges = "") {
  std::vector<std::string> assignments = {
      "data.sequence_length=13", "data.dataset.max_document_tokens=9",
      "data.dataset.num_tokens=2000", "batch.global_batch_size=8",
      absl::StrCat("model.num_layers=", num_ranks > 2 ? 6 : 2)};
  assignments.insert(assignments.end(), more.begin(), more.end());
  std::ostringstream text;
  text << std::ifstream(TRIREME_SOURCE_DIR "/examples/configs/verify.textproto").rdbuf()
       << exchanges;
  auto loaded = ParseConfig("verify", text.str(), assignments);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return *std::move(loaded);
}

// The verdict of one layout of a model whose calls go wrong, or whose declarations do.
LayoutVerdict VerdictOf(const RunConfig& config, int num_ranks, const RunLayout& layout,
                        CallMutator* mutator, const ModelBuilder& model = nullptr,
                        int num_steps = 1) {
  VerifyOptions options;
  options.num_ranks = num_ranks;
  options.num_steps = num_steps;
  options.layouts = {layout};
  options.blame = false;
  options.model = model;
  if (mutator != nullptr) {
    options.wrap_world = [mutator](Communicator& world) { return mutator->Wrap(world); };
  }
  const auto verdicts = VerifyLayouts(config, options);
  EXPECT_TRUE(verdicts.ok()) << verdicts.status();
  return verdicts.ok() ? verdicts->front() : LayoutVerdict();
}

// Mutations that are no mistake, and why.
const std::map<std::pair<std::string, Mutation>, std::string> kEquivalent = {
    {{"vocabulary maxima", Mutation::kSummed},
     "exponentials and their sum are relative to any number that is the same on all ranks"},
    {{"declared gradients", Mutation::kRotated},
     "whether fingerprints are equal does not depend on whose they are; undone it is noticed"},
    {{"push weights", Mutation::kRotated},
     "all are one: a replica of this graph sends as much as it gets"},
    {{"verify", Mutation::kUndone},
     "a barrier, of the verifier: it tells a refusal from a failure"},
};

// Purposes in the sources that no step has, and what tests them.
const std::map<std::string, std::string> kElsewhere = {
    {"evaluation", "EveryCollectiveOfAnEvaluationIsNeeded"},
    {"text sizes", "TextsArriveFromEveryRank"},
    {"texts", "TextsArriveFromEveryRank"},
    {"resume", "a barrier: rank 0 writes the run folder when all have looked at it"},
    {"run folder", "a barrier: ranks write into the run folder when it is there"},
    {"gpu ids", "setting up GPUs: NcclFailuresTest"},
    {"nccl id", "setting up GPUs: VerbsTest on GPUs"},
    {"nccl ids", "setting up GPUs: VerbsTest on GPUs"},
    {"warm-up", "what arrives is not looked at"},
    {"non-finite", "TrainerTest.ALossThatIsNotFiniteNamesTheFirstLayerAndRank"},
    {"stop",
     "ranks of one process have one signal; over processes: TrainCliTest.ASignalSavesAndEnds"},
};

struct StepRun {
  int num_ranks;
  bool tied = false;
  // Of runs whose replicas do not simply add their gradients up; then the layouts are one.
  const char* exchanges = "";
  int num_replicas = 0;
  int num_steps = 1;
};

constexpr StepRun kStepRuns[] = {
    {2},
    {2, /*tied=*/true},
    {4},
    // Weights are tokens, so that the losses matter; of the second exchange, memory and momentum.
    {2, false, R"(exchanges {
       point: "difference" rule { name: "every" period: 1 } codec { name: "int8" }
       memory: "error_feedback" mixer { name: "all_gather" } outer { name: "sgd" } weights: "tokens"
     })",
     2, 2},
    {2, false, R"(exchanges {
       point: "difference" rule { name: "every" period: 1 } codec { name: "int8" }
       memory: "error_feedback" mixer { name: "scatter_gather" } weights: "tokens"
     })",
     2, 2},
    {2, false, R"(exchanges {
       point: "difference" rule { name: "every" period: 1 } codec { name: "rand_k" fraction: 0.5 }
       memory: "error_feedback"
     })",
     2, 2},
    {2, false, R"(exchanges {
       point: "gradient" codec { name: "top_k" fraction: 0.2 } memory: "difference"
       mixer { name: "all_gather" } weights: "1,3"
     })",
     2, 2},
    {2, false, R"(exchanges { point: "gradient" pattern: "*gain" weights: "equal" }
                  exchanges { point: "gradient" codec { name: "powersgd" } weights: "equal" })",
     2, 2},
    {2, false, R"(exchanges { point: "parameters" rule { name: "every" period: 1 } }
                  exchanges {
                    point: "parameters" state: "exp_avg" rule { name: "every" period: 1 }
                  })",
     2, 2},
    // Four replicas differ when their last mean is taken.
    {4, false, R"(exchanges {
       point: "parameters" rule { name: "every" period: 1 } mixer { name: "gossip" }
     })",
     4, 2},
    {4, false, R"(exchanges {
       point: "parameters" rule { name: "every" period: 1 } mixer { name: "random_partner" }
     })",
     4, 2},
    // Blocks that the tensor axis cuts through.
    {2, false, R"(exchanges {
       point: "difference" rule { name: "every" period: 1 }
       codec { name: "int8" block: 40 } memory: "error_feedback" mixer { name: "all_gather" }
     })",
     1, 2},
};

struct Use {
  const StepRun* run;
  RunLayout layout;
};

RunConfig StepConfig(const StepRun& run) {
  std::vector<std::string> more = {absl::StrCat("model.tied_head=", run.tied ? "true" : "false")};
  if (run.num_replicas > 0) {
    more.push_back(absl::StrCat("mesh.replica=", run.num_replicas));
    more.push_back(absl::StrCat("num_steps=", run.num_steps));
    more.push_back("model.num_layers=2");
  }
  return SmallConfig(run.num_ranks, more, run.exchanges).config;
}

// What the mixer of a run's exchanges calls; others of the same name do it otherwise.
bool IsOfMixer(const CallSite& site) {
  return site.axis == AxisName(Axis::kReplica) && site.purpose != "loss";
}

// Each site and the first of the smallest layouts that call it; those of mixers in each run that
// has any.
std::vector<std::pair<CallSite, Use>> FindSites() {
  std::vector<std::pair<CallSite, Use>> sites;
  std::set<CallSite> known;
  for (const StepRun& run : kStepRuns) {
    CallMutator recorder;
    VerifyOptions options;
    options.num_ranks = run.num_ranks;
    options.num_steps = run.num_steps;
    options.pairwise = true;
    if (run.num_replicas > 0) {
      options.layouts = {
          {{{"mesh.tensor", absl::StrCat(run.num_ranks / std::max(1, run.num_replicas))}}}};
    }
    options.wrap_world = [&](Communicator& world) { return recorder.Wrap(world); };
    const auto verdicts =
        VerifyLayouts(StepConfig(run), options, [&](const LayoutVerdict& verdict) {
          const auto calls = recorder.TakeCalls();
          EXPECT_EQ(verdict.outcome, Outcome::kEqual)
              << verdict.layout.ToString() << ": " << verdict.reason;
          for (const auto& [site, count] : calls) {
            const bool is_new = known.insert(site).second;
            if (is_new || (run.num_replicas > 0 && IsOfMixer(site))) {
              sites.push_back({site, {&run, verdict.layout}});
            }
          }
        });
    EXPECT_TRUE(verdicts.ok()) << verdicts.status();
  }
  return sites;
}

// The literals that calls give as purpose.
std::set<std::string> PurposesInSources() {
  std::set<std::string> purposes;
  const std::regex literal(R"(purpose = "([^"]+)\")");
  for (const char* folder : {"core", "parallel", "models", "optim", "launch"}) {
    const std::filesystem::path root = std::filesystem::path(TRIREME_SOURCE_DIR) / folder;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (entry.path().extension() != ".cc") continue;
      std::ostringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      const std::string source = text.str();
      for (std::sregex_iterator it(source.begin(), source.end(), literal), end; it != end; ++it) {
        purposes.insert((*it)[1]);
      }
    }
  }
  return purposes;
}

TEST(MutationTest, EveryCollectiveOfAStepIsNeeded) {
  const auto sites = FindSites();
  int num_mutations = 0, num_survivors = 0;
  std::set<std::string> called;
  for (const auto& [site, use] : sites) {
    called.insert(site.purpose);
    for (const Mutation mutation : MutationsOf(site)) {
      CallMutator mutator(site, mutation);
      const LayoutVerdict verdict = VerdictOf(StepConfig(*use.run), use.run->num_ranks, use.layout,
                                              &mutator, nullptr, use.run->num_steps);
      const bool survives = verdict.outcome == Outcome::kEqual;
      EXPECT_TRUE(mutator.TakeCalls().count(site)) << site.ToString();
      EXPECT_EQ(survives, kEquivalent.count({site.purpose, mutation}) > 0)
          << site.ToString() << " " << MutationName(mutation) << " under " << use.layout.ToString()
          << " " << use.run->exchanges << ": " << verdict.reason;
      ++num_mutations;
      num_survivors += survives;
    }
  }
  EXPECT_EQ(sites.size(), 79u);
  EXPECT_EQ(num_mutations, 147);
  EXPECT_EQ(num_survivors, 5);
  const std::set<std::string> literals = PurposesInSources();
  EXPECT_GE(literals.size(), 14u);
  for (const std::string& purpose : literals) {
    EXPECT_NE(called.count(purpose), kElsewhere.count(purpose))
        << "nothing mutates '" << purpose << "'";
  }
}

// What a world says of the model that it starts from: the validation loss, and with `logits` those
// of made-up hidden states. By rank.
StatusOr<std::vector<std::vector<double>>> ScoresOf(int num_ranks,
                                                    const std::vector<std::string>& layout,
                                                    bool logits, CallMutator* mutator) {
  std::vector<std::string> assignments = {"data.dataset.validation_fraction=0.1", "dtype=f64"};
  assignments.insert(assignments.end(), layout.begin(), layout.end());
  LoadedConfig loaded = SmallConfig(2, assignments);
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
  const RunConfig& config = loaded.config;
  std::vector<std::vector<double>> scores(num_ranks);
  RETURN_IF_ERROR(
      RunOnRanks(num_ranks, {.deadline = absl::Seconds(10)}, [&](Communicator& inner) -> Status {
        const auto world = mutator->Wrap(inner);
        const auto device = MakeCpuDevice({.num_threads = 1});
        const ComponentConfig data = ToComponentConfig(config.data().dataset());
        ASSIGN_OR_RETURN(auto dataset,
                         MakeDataset(data.name, data.params, {config.data().sequence_length()}));
        PhaseTimer phases;
        ASSIGN_OR_RETURN(auto trainer, Trainer::Create(config, *dataset, *world, *device, phases));
        ASSIGN_OR_RETURN(const EvaluationReport report, trainer->Evaluate(0));
        std::vector<double>& mine = scores[world->rank()];
        mine = {report.mean_loss(), static_cast<double>(report.loss.count)};
        if (!logits) return absl::OkStatus();
        constexpr int64_t kTokens = 7, kWidth = 24;
        std::vector<double> values;
        for (int i = 0; i < kTokens * kWidth; ++i) values.push_back(std::sin(i));
        const TensorAxis axis = trainer->mesh().tensor(config.mesh().sharded_stream());
        const Tensor hidden = Tensor::FromVector(*device, {kTokens, kWidth}, values, DType::kF64);
        Batch batch;
        batch.inputs = Tensor::Zeros(*device, {kTokens}, DType::kI32);
        return CatchFailure([&] {
          const Tensor rows = axis.sharded_stream ? RowsOf(hidden, axis.group) : hidden;
          for (const double logit : trainer->model().Logits(rows, batch, {}).ToVector())
            mine.push_back(logit);
        });
      }));
  return scores;
}

TEST(MutationTest, EveryCollectiveOfAnEvaluationIsNeeded) {
  CallMutator nothing;
  const auto one = ScoresOf(1, {}, /*logits=*/true, &nothing);
  ASSERT_TRUE(one.ok()) << one.status();
  const auto differs = [&](const StatusOr<std::vector<std::vector<double>>>& scores) {
    if (!scores.ok()) return true;
    for (const std::vector<double>& rank : *scores) {
      for (size_t i = 0; i < rank.size(); ++i) {
        if (!(std::abs(rank[i] - (*one)[0][i]) <= 1e-10)) return true;
      }
    }
    return false;
  };
  std::set<std::string> called;
  for (const std::vector<std::string>& layout : std::vector<std::vector<std::string>>{
           {"mesh.replica=2"},
           {"mesh.shard=2", "mesh.zero_stage=3"},
           {"mesh.pipeline=2"},
           {"mesh.pipeline=2", "pipeline_schedule.name=interleaved"},
           {"mesh.pipeline=2", "pipeline_schedule.name=dualpipe_v"},
           {"mesh.sequence=2", "kv_exchange.name=ring"},
           {"mesh.tensor=2"},
           {"mesh.tensor=2", "mesh.sharded_stream=true"}}) {
    const bool logits = absl::StartsWith(layout[0], "mesh.tensor");
    CallMutator recorder;
    EXPECT_FALSE(differs(ScoresOf(2, layout, logits, &recorder))) << layout[0];
    for (const auto& [site, count] : recorder.TakeCalls()) {
      called.insert(site.purpose);
      for (const Mutation mutation : MutationsOf(site)) {
        CallMutator mutator(site, mutation);
        EXPECT_EQ(differs(ScoresOf(2, layout, logits, &mutator)),
                  !kEquivalent.count({site.purpose, mutation}))
            << site.ToString() << " " << MutationName(mutation) << " under " << layout[0];
      }
    }
  }
  EXPECT_TRUE(called.count("evaluation") && called.count("logits"));
}

TEST(MutationTest, TextsArriveFromEveryRank) {
  const std::vector<std::string> texts = {"one", "", "of three"};
  const auto arrive = [&](CallMutator* mutator) {
    return RunOnRanks(3, {},
                      [&](Communicator& inner) -> Status {
                        const auto world = mutator->Wrap(inner);
                        ASSIGN_OR_RETURN(const auto all, GatherTexts(*world, texts[world->rank()]));
                        return all == texts ? absl::OkStatus() : absl::InternalError("other texts");
                      })
        .ok();
  };
  CallMutator recorder;
  ASSERT_TRUE(arrive(&recorder));
  const auto sites = recorder.TakeCalls();
  EXPECT_EQ(sites.size(), 2u);
  for (const auto& [site, count] : sites) {
    for (const Mutation mutation : MutationsOf(site)) {
      if (site.purpose == "text sizes" && mutation == Mutation::kRotated)
        continue;  // The next call CHECKs its size.
      CallMutator mutator(site, mutation);
      EXPECT_FALSE(arrive(&mutator)) << site.ToString() << " " << MutationName(mutation);
    }
  }
}

// A change of what a parameter declares; false when it is none. `next`: what the next tensor rank
// declares.
struct Edit {
  const char* name;
  std::function<bool(ParamSpec& spec, const ParamSpec& next)> apply;
};

bool IsSplit(const ParamSpec& spec) { return spec.split.Contains(Axis::kTensor); }

const Edit kEdits[] = {
    {"partial_grad dropped",
     [](ParamSpec& spec, const ParamSpec&) {
       return !std::exchange(spec.partial_grad, {}).empty();
     }},
    {"partial_grad added",
     [](ParamSpec& spec, const ParamSpec&) {
       return std::exchange(spec.partial_grad, Axis::kTensor).empty();
     }},
    {"split dropped",
     [](ParamSpec& spec, const ParamSpec&) { return !std::exchange(spec.split, {}).empty(); }},
    {"split added",
     [](ParamSpec& spec, const ParamSpec&) {
       return std::exchange(spec.split, Axis::kTensor).empty();
     }},
    {"copies doubled",
     [](ParamSpec& spec, const ParamSpec&) { return IsSplit(spec) && (spec.copies *= 2) > 0; }},
    {"copies dropped",
     [](ParamSpec& spec, const ParamSpec&) { return std::exchange(spec.copies, 1) > 1; }},
};

std::string Kind(const std::string& path) {
  return std::regex_replace(path, std::regex("[0-9]+"), "*");
}

// The model with one kind of parameter edited on the ranks of a tensor axis. NOT_FOUND when that
// changes nothing.
ModelBuilder Edited(const RunConfig& config, const std::string& kind, const Edit& edit) {
  return [=](const DataShape& data, const ModelLayout& layout) -> StatusOr<std::unique_ptr<Model>> {
    const ComponentConfig component = ToComponentConfig(config.model());
    ASSIGN_OR_RETURN(auto model, MakeModel(component, data, layout));
    if (layout.tensor.size == 1) return model;
    ModelLayout beside = layout;
    beside.tensor.rank = (layout.tensor.rank + 1) % layout.tensor.size;
    ASSIGN_OR_RETURN(const auto next, MakeModel(component, data, beside));
    bool changed = false;
    for (const auto& parameter : model->parameters().parameters()) {
      if (Kind(parameter->spec.path) != kind) continue;
      changed |= edit.apply(parameter->spec, next->parameters().Find(parameter->spec.path)->spec);
    }
    if (!changed) return absl::NotFoundError(absl::StrCat(kind, ": ", edit.name));
    return model;
  };
}

std::set<std::string> ParameterKinds(const RunConfig& config) {
  std::set<std::string> kinds;
  const auto model = MakeModel(ToComponentConfig(config.model()), {.vocab_size = 61});
  EXPECT_TRUE(model.ok()) << model.status();
  for (const auto& parameter : (*model)->parameters().parameters())
    kinds.insert(Kind(parameter->spec.path));
  return kinds;
}

RunLayout TensorLayout(int size, bool sharded_stream) {
  return {{{"mesh.replica", "1"},
           {"mesh.tensor", absl::StrCat(size)},
           {"mesh.sharded_stream", sharded_stream ? "true" : "false"}}};
}

TEST(MutationTest, EveryDeclarationIsHeldAgainstTheRanks) {
  const RunConfig config = SmallConfig(2, {"model.num_layers=1"}).config;
  std::map<std::string, int> caught;
  for (const std::string& kind : ParameterKinds(config)) {
    for (const Edit& edit : kEdits) {
      for (const auto& [size, stream] : {std::pair(2, false), {2, true}, {4, false}, {4, true}}) {
        const ModelBuilder model = Edited(config, kind, edit);
        if (!model({.vocab_size = 61}, {.tensor = {0, size, nullptr, stream}}).ok()) continue;
        const LayoutVerdict verdict =
            VerdictOf(config, size, TensorLayout(size, stream), nullptr, model);
        const std::string what = absl::StrCat(kind, ", ", edit.name, ", tensor=", size,
                                              stream ? " sharded: " : ": ", verdict.reason);
        EXPECT_EQ(verdict.outcome, Outcome::kDiffers) << what;
        EXPECT_THAT(Kind(verdict.reason), ::testing::HasSubstr(kind)) << what;
        const bool in_step = absl::StrContains(verdict.reason, "have different gradients") ||
                             absl::StrContains(verdict.reason, "have the same gradient");
        const bool when_built = !absl::StrContains(verdict.reason, "step 1");
        ++caught[in_step      ? "by the gradients of the first step"
                 : when_built ? "when built"
                              : "by its numbers"];
      }
    }
  }
  using ::testing::Pair;
  EXPECT_THAT(caught, ::testing::ElementsAre(Pair("by the gradients of the first step", 20),
                                             Pair("when built", 132)));
}

// Parts of the right shape in the wrong place: the ranks still agree, the numbers do not.
TEST(MutationTest, PartsAreWhereTheyAreDeclared) {
  const Edit next = {"the next rank's part", [](ParamSpec& spec, const ParamSpec& next) {
                       spec.local = next.local;
                       return IsSplit(spec);
                     }};
  const RunConfig config = SmallConfig(2, {"model.num_layers=1"}).config;
  for (const std::string& kind : ParameterKinds(config)) {
    const ModelBuilder model = Edited(config, kind, next);
    if (!model({.vocab_size = 61}, {.tensor = {0, 2, nullptr, false}}).ok()) continue;
    const LayoutVerdict verdict = VerdictOf(config, 2, TensorLayout(2, false), nullptr, model);
    // Which tokens a rank has follows from nothing but this declaration.
    const bool survives = kind == "embedding.weight" || kind == "head.weight";
    EXPECT_EQ(verdict.outcome == Outcome::kEqual, survives) << kind << ": " << verdict.reason;
  }
}

TEST(MutationTest, ATieIsAddedUpOverItsStages) {
  const RunConfig config = StepConfig({2, /*tied=*/true});
  const RunLayout layout = {{{"mesh.replica", "1"}, {"mesh.pipeline", "2"}}};
  for (const bool forgotten : {false, true}) {
    const auto model = [&](const DataShape& data,
                           const ModelLayout& cut) -> StatusOr<std::unique_ptr<Model>> {
      ASSIGN_OR_RETURN(auto model, MakeModel(ToComponentConfig(config.model()), data, cut));
      if (forgotten) model->parameters().Find("embedding.weight")->spec.units.pop_back();
      return model;
    };
    EXPECT_EQ(VerdictOf(config, 2, layout, nullptr, model).outcome,
              forgotten ? Outcome::kDiffers : Outcome::kEqual);
  }
}

}  // namespace
}  // namespace trireme
