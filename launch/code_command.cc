// trireme code: what a gradient code has workers do, and how long it takes on given delays.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/params.h"
#include "core/io/file.h"
#include "launch/bootstrap.h"
#include "launch/code_tables.h"
#include "launch/commands.h"
#include "parallel/coding/gradient_code.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"set", "KEY=VALUE", "n, the workers, or a parameter of the code (further ones need no --set)",
     true},
    {"rounds", "R", "show: rounds whose assignment is printed (default: delay + 3)"},
    {"late", "R:W", "show: worker W is late in round R", true},
    {"delays", "MODEL", "simulate: of trireme list delay_model (default: serverless)"},
    {"delay-set", "KEY=VALUE", "simulate: a parameter of that model", true},
    {"trace", "FILE",
     "simulate: seconds, a line a round and a number a worker, in place of a model"},
    {"trace-load", "L", "simulate: the part of a job that workers did in the trace (default: 0)"},
    {"trace-per-load", "S", "simulate: seconds of it for a whole job (default: 0)"},
    {"jobs", "J", "simulate: default 80, or what the trace has"},
    {"seeds", "K", "simulate: draws of the delays (default: 5)"},
    {"mu", "MU", "simulate: rounds go on until (1 + MU) times the fastest (default: 1)"},
    {"max-delay", "T", "simulate: of the codes tried (default: 3)"},
    {"use-late", nullptr, "simulate: late workers go on and their results count, with look_ahead"},
};

StatusOr<double> Number(const CommandLine& line, absl::string_view flag, double otherwise) {
  if (!line.Has(flag)) return otherwise;
  double value;
  if (!ParseFloat(line.String(flag), &value) || !(value >= 0 && value < 1e9)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " ", line.String(flag), " is no number of at least 0"));
  }
  return value;
}

Status AddSetting(absl::string_view text, ParamMap* settings) {
  const std::pair<std::string, std::string> setting = absl::StrSplit(text, absl::MaxSplits('=', 1));
  if (setting.first.empty() || !absl::StrContains(text, '=')) {
    return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not KEY=VALUE"));
  }
  if (!settings->insert(setting).second) {
    return absl::InvalidArgumentError(absl::StrCat(setting.first, " is set twice"));
  }
  return absl::OkStatus();
}

struct Request {
  bool simulate = false;
  std::string code;  // "" with simulate: all.
  ParamMap settings;
  int64_t num_workers = 0;
};

StatusOr<Request> ReadRequest(const CommandLine& line) {
  const std::string& action = line.positional()[0];
  if (action != "show" && action != "simulate") {
    return absl::InvalidArgumentError(
        UnknownNameMessage("action of code", action, std::vector<std::string>{"show", "simulate"}));
  }
  Request request;
  request.simulate = action == "simulate";
  for (size_t i = 1; i < line.positional().size(); ++i) {
    const std::string& word = line.positional()[i];
    if (i == 1 && !absl::StrContains(word, '=')) {
      request.code = word;
    } else {
      RETURN_IF_ERROR(AddSetting(word, &request.settings));
    }
  }
  for (const std::string& setting : line.All("set")) {
    RETURN_IF_ERROR(AddSetting(setting, &request.settings));
  }
  if (!request.simulate && request.code.empty()) {
    return absl::InvalidArgumentError("code show needs the NAME of a code");
  }
  const auto n = request.settings.find("n");
  if (n != request.settings.end()) {
    if (!ParseInt(n->second, &request.num_workers) || request.num_workers < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("n = ", n->second, " is no number of workers"));
    }
    request.settings.erase(n);
  } else if (!line.Has("trace") || !request.simulate) {
    return absl::InvalidArgumentError(absl::StrCat("code ", action, " needs --set n=WORKERS"));
  }
  if (request.code.empty() && !request.settings.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "code simulate: ", request.settings.begin()->first, " is a parameter, but of which code?"));
  }
  return request;
}

Status Show(const CommandLine& line, const Request& request) {
  ASSIGN_OR_RETURN(const std::unique_ptr<GradientCode> code,
                   MakeGradientCode(request.code, request.num_workers, request.settings));
  const CodeShape& shape = code->shape();
  ASSIGN_OR_RETURN(const int64_t num_rounds, line.Int("rounds", shape.delay + 3, 1));
  std::vector<std::pair<int64_t, int>> late;
  for (const std::string& text : line.All("late")) {
    const std::vector<std::string> words = absl::StrSplit(text, ':');
    int64_t round, worker;
    if (words.size() != 2 || !ParseInt(words[0], &round) || !ParseInt(words[1], &worker) ||
        round < 0 || worker < 0 || worker >= shape.num_workers) {
      return absl::InvalidArgumentError(
          absl::StrCat("--late ", text, " is no ROUND:WORKER of ", shape.num_workers, " workers"));
    }
    late.push_back({round, static_cast<int>(worker)});
  }
  std::string title = absl::StrCat(request.code, ": n = ", shape.num_workers);
  for (const auto& [key, value] : request.settings) {
    absl::StrAppend(&title, ", ", key, " = ", value);
  }
  ASSIGN_OR_RETURN(const std::string assignment, AssignmentText(*code, num_rounds, late));
  std::fputs(absl::StrCat(title, "\n", CodeText(*code), "\n", assignment).c_str(), stdout);
  return absl::OkStatus();
}

Status RunSimulation(const CommandLine& line, const Request& request) {
  SimulationTable table;
  table.code = request.code;
  table.params = request.settings;
  table.num_workers = request.num_workers;
  table.use_late = line.Has("use-late");
  ASSIGN_OR_RETURN(table.mu, Number(line, "mu", 1));
  ASSIGN_OR_RETURN(const int64_t max_delay, line.Int("max-delay", 3, 1));
  if (max_delay > 16) {
    return absl::InvalidArgumentError(absl::StrCat("--max-delay ", max_delay, ", at most 16"));
  }
  table.max_delay = static_cast<int>(max_delay);
  ASSIGN_OR_RETURN(table.num_seeds, line.Int("seeds", 5, 1));
  ASSIGN_OR_RETURN(table.num_jobs, line.Int("jobs", line.Has("trace") ? 0 : 80, 1));
  table.delays = line.String("delays", "serverless");
  for (const std::string& setting : line.All("delay-set")) {
    RETURN_IF_ERROR(AddSetting(setting, &table.delay_params));
  }
  if (line.Has("trace")) {
    if (line.Has("delays") || line.Has("delay-set") || line.Has("seeds")) {
      return absl::InvalidArgumentError("a trace is what it is: no --delays, --delay-set, --seeds");
    }
    ASSIGN_OR_RETURN(const double load, Number(line, "trace-load", 0));
    ASSIGN_OR_RETURN(const double per_load, Number(line, "trace-per-load", 0));
    ASSIGN_OR_RETURN(const std::string text, ReadFile(line.String("trace")));
    StatusOr<DelayProfile> trace = ParseTrace(text, load, per_load);
    if (!trace.ok()) return Annotate(trace.status(), line.String("trace"));
    table.trace = *std::move(trace);
  }
  ASSIGN_OR_RETURN(const std::string text, SimulationText(table));
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

int RunCode(const CommandLine& line) {
  const StatusOr<Request> request = ReadRequest(line);
  if (!request.ok()) return UsageError(request.status());
  const Status status = request->simulate ? RunSimulation(line, *request) : Show(line, *request);
  if (status.ok()) return kExitDone;
  PrintError(status);
  return kExitError;
}

}  // namespace

Command CodeCommand() {
  return {{"code",
           "Shows a gradient code (of trireme list gradient_code), or simulates codes on delays.",
           "show NAME | simulate [NAME]", 1, 64, kFlags,
           "trireme code show m_sgc --set n=8 window=3 lambda=2 --late 0:1\n"
           "  trireme code simulate --set n=64 --delays gilbert_elliott --delay-set slow=4"},
          &RunCode};
}

}  // namespace trireme
