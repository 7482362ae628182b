// The program as a child process of a test.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "core/base/log.h"
#include "core/io/file.h"

namespace trireme {

inline std::string TestPath(absl::string_view name) {
  return JoinPath(::testing::TempDir(), absl::StrCat("cli_", getpid(), "_", name));
}

// A child process, its output in files.
class Program {
 public:
  // args[0] is the path of the program. `environment` is added to a small one of its own, without a
  // launcher's variables.
  Program(std::vector<std::string> args, std::vector<std::string> environment)
      : out_(TestPath("out")), err_(TestPath("err")) {
    environment.push_back("PATH=/usr/bin:/bin");
    environment.push_back("HOME=/tmp");
    environment.push_back("ASAN_OPTIONS=detect_leaks=0");  // MPI keeps memory of its own.
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out_.c_str(), flags, 0600);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, err_.c_str(), flags, 0600);
    CHECK_EQ(posix_spawn(&pid_, args[0].c_str(), &files, nullptr, Pointers(args).data(),
                         Pointers(environment).data()),
             0);
    posix_spawn_file_actions_destroy(&files);
  }

  int Wait() {
    int status = 0;
    CHECK_EQ(waitpid(pid_, &status, 0), pid_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void Signal(int signal) { CHECK_EQ(kill(pid_, signal), 0); }
  std::string out() const { return *ReadFile(out_); }
  std::string err() const { return *ReadFile(err_); }

 private:
  static std::vector<char*> Pointers(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
  }
  std::string out_, err_;
  pid_t pid_ = 0;
};

struct Result {
  int code;
  std::string out, err;
};

// args[0] is the path of the program.
inline Result RunToEnd(std::vector<std::string> args, std::vector<std::string> environment = {}) {
  Program program(std::move(args), std::move(environment));
  const int code = program.Wait();
  return {code, program.out(), program.err()};
}

}  // namespace trireme
