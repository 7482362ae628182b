#include "launch/progress.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "launch/launched_world.h"

namespace trireme {
namespace {

constexpr absl::Duration kLinePeriod = absl::Seconds(10);
constexpr absl::Duration kLivePeriod = absl::Milliseconds(100);
constexpr int64_t kFirstSteps = 3;  // Shown one by one, so that a bad start is seen at once.
constexpr int kBarWidth = 20;

// 1234567 -> "1.23M"
std::string WithUnit(double value) {
  const std::pair<double, const char*> units[] = {
      {1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  for (const auto& [scale, unit] : units) {
    if (value >= scale) return absl::StrFormat("%.3g%s", value / scale, unit);
  }
  return absl::StrFormat("%.3g", value);
}

int TerminalWidth(int fd) {
  winsize size = {};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Progress::Progress(ProgressOptions options)
    : options_(std::move(options)), start_(options_.clock()), last_shown_(start_) {}

void Progress::Step(const StepMetrics& metrics) {
  last_ = metrics;
  ++steps_seen_;
  pending_ = true;
  const absl::Time now = options_.clock();
  const bool last = metrics.step >= options_.num_steps;
  bool show = steps_seen_ <= kFirstSteps || last;
  if (options_.live) {
    show = show || now - last_shown_ >= kLivePeriod;
  } else if (options_.log_every > 0) {
    show = show || metrics.step % options_.log_every == 0;
  } else {
    show = show || now - last_shown_ >= kLinePeriod;
  }
  if (!show) return;
  last_shown_ = now;
  pending_ = false;
  if (options_.live) {
    Draw();
  } else {
    Line(Describe(metrics));
  }
}

void Progress::Line(absl::string_view text) {
  if (drawn_) Write("\r\033[K");
  const std::string time =
      options_.timestamps
          ? absl::FormatTime("%Y-%m-%d %H:%M:%E3S ", options_.clock(), absl::LocalTimeZone())
          : "";
  Write(absl::StrCat(time, text, "\n"));
  if (drawn_) Draw();
}

void Progress::Finish() {
  if (options_.live) {
    if (steps_seen_ > 0) Draw();
    if (drawn_) Write("\n");
    drawn_ = false;
  } else if (pending_) {
    Line(Describe(last_));
  }
  pending_ = false;
}

std::string Progress::Describe(const StepMetrics& metrics) const {
  std::string text =
      absl::StrFormat("step %d/%d  loss %.4f  grad norm %.3g  lr %.3g", metrics.step,
                      options_.num_steps, metrics.loss, metrics.grad_norm, metrics.learning_rate);
  if (metrics.step_seconds > 0) {
    absl::StrAppend(&text, "  ",
                    WithUnit(static_cast<double>(metrics.tokens) / metrics.step_seconds),
                    " tokens/s");
    if (metrics.model_flops > 0) {
      absl::StrAppend(&text, "  ", WithUnit(metrics.model_flops / metrics.step_seconds), "FLOP/s");
    }
  }
  const int64_t done = metrics.step - options_.first_step;
  if (done > 0 && metrics.step < options_.num_steps) {
    const absl::Duration left = (options_.clock() - start_) / static_cast<double>(done) *
                                static_cast<double>(options_.num_steps - metrics.step);
    absl::StrAppend(&text, "  ", absl::FormatDuration(absl::Trunc(left, absl::Seconds(1))),
                    " left");
  }
  return text;
}

void Progress::Draw() {
  const double share = options_.num_steps > 0 ? static_cast<double>(last_.step) /
                                                    static_cast<double>(options_.num_steps)
                                              : 0;
  const int filled = std::clamp(static_cast<int>(share * kBarWidth), 0, kBarWidth);
  std::string text = absl::StrCat("[", std::string(filled, '#'),
                                  std::string(kBarWidth - filled, ' '), "] ", Describe(last_));
  // A line that wraps cannot be overwritten.
  text.resize(std::min<size_t>(text.size(), std::max(1, TerminalWidth(options_.fd) - 1)));
  Write(absl::StrCat("\r\033[K", text));
  drawn_ = true;
}

void Progress::Write(absl::string_view text) const {
  while (!text.empty()) {
    const ssize_t written = write(options_.fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    // Progress that nobody takes (a closed pipe, a full disk) must not end the run.
    if (written < 0) return;
    text.remove_prefix(written);
  }
}

bool IsLiveTerminal(int fd) {
  if (!isatty(fd)) return false;
  if (!ReadLaunchedWorld().launched()) return true;
  const int launcher =
      open(absl::StrCat("/proc/", getppid(), "/fd/1").c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (launcher < 0) return false;
  const bool live = isatty(launcher);
  close(launcher);
  return live;
}

}  // namespace trireme
