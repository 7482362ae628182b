// CHECK for programmer errors, LOG for whole lines on stderr. Both have Abseil's spelling and step
// aside when the Abseil found has them.
#pragma once

#if __has_include("absl/log/check.h")
#include "absl/log/check.h"
#include "absl/log/log.h"
#else

#include <ostream>
#include <sstream>

namespace trireme::log_internal {

enum Severity { INFO, WARNING, ERROR, FATAL };

// Collects one line; the destructor writes it whole, with one write(2). FATAL aborts.
class LogLine {
 public:
  LogLine(Severity severity, const char* file, int line);
  ~LogLine();
  std::ostream& stream() { return stream_; }

 private:
  Severity severity_;
  std::ostringstream stream_;
};

struct Voidify {
  void operator&(std::ostream&) const {}
};

template <typename A, typename B>
std::ostream& FailedComparison(LogLine&& line, const char* text, const A& a, const B& b) {
  return line.stream() << "CHECK failed: " << text << " (" << a << " vs. " << b << ") ";
}

}  // namespace trireme::log_internal

#define LOG(severity) \
  ::trireme::log_internal::LogLine(::trireme::log_internal::severity, __FILE__, __LINE__).stream()
#define CHECK(condition) \
  (condition) ? (void)0  \
              : ::trireme::log_internal::Voidify() & LOG(FATAL) << "CHECK failed: " #condition " "
#define TRIREME_CHECK_OP(a, op, b)                                                                \
  ((a)op(b)) ? (void)0                                                                            \
             : ::trireme::log_internal::Voidify() &                                               \
                   ::trireme::log_internal::FailedComparison(                                     \
                       ::trireme::log_internal::LogLine(::trireme::log_internal::FATAL, __FILE__, \
                                                        __LINE__),                                \
                       #a " " #op " " #b, (a), (b))
#define CHECK_EQ(a, b) TRIREME_CHECK_OP(a, ==, b)
#define CHECK_NE(a, b) TRIREME_CHECK_OP(a, !=, b)
#define CHECK_LT(a, b) TRIREME_CHECK_OP(a, <, b)
#define CHECK_LE(a, b) TRIREME_CHECK_OP(a, <=, b)
#define CHECK_GT(a, b) TRIREME_CHECK_OP(a, >, b)
#define CHECK_GE(a, b) TRIREME_CHECK_OP(a, >=, b)
#define CHECK_OK(expr)                                         \
  do {                                                         \
    const auto& check_ok_status = (expr);                      \
    CHECK(check_ok_status.ok()) << check_ok_status.ToString(); \
  } while (false)

#endif

namespace trireme {

// The rank that LOG and CHECK print for the calling thread; -1 (the default) prints none. Per
// thread, since ranks may be threads of one process.
void SetLogRank(int rank);
int LogRank();

}  // namespace trireme
