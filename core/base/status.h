// Errors. The user, a file, the network and memory are answered with absl::Status; one exception
// type, Failure, carries a Status out of functions that return tensors, and is caught at the
// borders only.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trireme {

using absl::Status;
using absl::StatusOr;

// Thrown where a Tensor-returning function meets memory, another rank or the data. Nothing else is
// thrown.
class Failure : public std::exception {
 public:
  explicit Failure(Status status) : status_(std::move(status)), text_(status_.ToString()) {}
  const Status& status() const { return status_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  Status status_;
  std::string text_;
};

inline void ThrowIfError(const Status& status) {
  if (!status.ok()) throw Failure(status);
}

template <typename T>
T ValueOrThrow(StatusOr<T> value) {
  if (!value.ok()) throw Failure(value.status());
  return *std::move(value);
}

// The same status with "context: " in front of its message.
Status Annotate(const Status& status, absl::string_view context);

// The status of `errno_value` for `call` on `path`: "write /a/b: No space left on device".
Status ErrnoStatus(int errno_value, absl::string_view call, absl::string_view path);

// Runs fn and turns a Failure (or std::bad_alloc) into its Status: the border between the two
// worlds.
template <typename Fn>
Status CatchFailure(Fn&& fn) {
  try {
    fn();
    return absl::OkStatus();
  } catch (const Failure& failure) {
    return failure.status();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("the host is out of memory");
  }
}

}  // namespace trireme

#if __has_include("absl/status/status_macros.h")
#include "absl/status/status_macros.h"
#else
#define TRIREME_CONCAT_INNER(a, b) a##b
#define TRIREME_CONCAT(a, b) TRIREME_CONCAT_INNER(a, b)
#define RETURN_IF_ERROR(expr)                   \
  do {                                          \
    ::absl::Status status_macro_value = (expr); \
    if (!status_macro_value.ok()) [[unlikely]]  \
      return status_macro_value;                \
  } while (false)
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_INNER(TRIREME_CONCAT(status_or_value_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_INNER(statusor, lhs, expr) \
  auto statusor = (expr);                           \
  if (!statusor.ok()) [[unlikely]]                  \
    return statusor.status();                       \
  lhs = *std::move(statusor)
#endif
