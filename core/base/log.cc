#include "core/base/log.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace trireme {
namespace {

thread_local int log_rank = -1;

}  // namespace

void SetLogRank(int rank) { log_rank = rank; }
int LogRank() { return log_rank; }

#if !__has_include("absl/log/check.h")
namespace log_internal {

LogLine::LogLine(Severity severity, const char* file, int line) : severity_(severity) {
  static constexpr char kLetters[] = "IWEF";
  const char* base = std::strrchr(file, '/');
  stream_ << kLetters[severity] << ' ';
  if (log_rank >= 0) stream_ << "rank " << log_rank << ' ';
  stream_ << (base != nullptr ? base + 1 : file) << ':' << line << "] ";
}

LogLine::~LogLine() {
  stream_ << '\n';
  const std::string text = stream_.str();
  // A line that stderr does not take has nowhere else to go.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  if (severity_ == FATAL) std::abort();
}

}  // namespace log_internal
#endif

}  // namespace trireme
