// No return code is dropped: of every place in the plug-in that calls a function of CUDA, cuBLASLt
// or NCCL, the call is made to fail once, and a Status, or a log line of a destructor, names it.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <link.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "parallel/comm/local.h"
#include "parallel/comm/nccl.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::RandomTensor;

constexpr char kLibrary[] = "trireme_cuda_emulated";

// The functions of fault_injection.h, in the plug-in.
class Faults {
 public:
  Faults() {
    CHECK_OK(MakeCudaDevice({.library = kLibrary}).status());  // Loads it.
    std::string path;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* found) {
          const std::string name = info->dlpi_name;
          if (absl::StrContains(name, kLibrary)) *static_cast<std::string*>(found) = name;
          return 0;
        },
        &path);
    library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    CHECK(library_ != nullptr) << path;
  }
  int64_t num_sites() const { return Function<int64_t()>("num_sites")(); }
  std::string site(int64_t i) const { return Function<const char*(int64_t)>("site_function")(i); }
  void Fail(int64_t i) const { Function<void(int64_t)>("fail_site")(i); }
  bool has_failed() const { return Function<bool()>("has_failed")(); }
  int64_t TakeErrors() const { return Function<int64_t()>("take_errors")(); }

 private:
  template <typename Signature>
  Signature* Function(const char* name) const {
    void* symbol = dlsym(library_, absl::StrCat("trireme_emulation_", name).c_str());
    CHECK(symbol != nullptr) << dlerror();
    return reinterpret_cast<Signature*>(symbol);
  }
  void* library_ = nullptr;
};

// Runs `work`, and again for each place that it calls CUDA from.
void ExpectEveryFailureIsNoticed(const std::function<Status()>& work) {
  const Faults faults;
  faults.Fail(-1);
  const int64_t first = faults.num_sites();
  const Status fine = work();
  ASSERT_TRUE(fine.ok()) << fine;
  ASSERT_EQ(faults.TakeErrors(), 0);
  const int64_t end = faults.num_sites();
  std::vector<std::string> unnoticed;
  int num_failed = 0;
  for (int64_t i = first; i < end; ++i) {
    faults.Fail(i);
    ::testing::internal::CaptureStderr();
    const Status status = work();
    const std::string log = ::testing::internal::GetCapturedStderr();
    if (!faults.has_failed()) continue;  // It is called only after something else.
    ++num_failed;
    // By the name of the function or of its code.
    const std::string function = faults.site(i);
    const std::string said = absl::StrCat(status.ToString(), log);
    bool is_named = absl::StrContains(said, function);
    for (const char* code :
         {"cudaErrorUnknown", "CUBLAS_STATUS_INTERNAL_ERROR", "internal error"}) {
      is_named |= absl::StrContains(said, code);
    }
    const bool may_try_again = function == "cudaMalloc" || function == "cudaHostAlloc";
    if (!is_named && !(may_try_again && status.ok())) {
      unnoticed.push_back(absl::StrCat(function, " (site ", i, "): ", status.ToString()));
    }
    faults.TakeErrors();
  }
  faults.Fail(-1);
  EXPECT_GT(num_failed, 10);
  EXPECT_THAT(unnoticed, ::testing::IsEmpty()) << "of " << num_failed;
  ::testing::Test::RecordProperty("places", num_failed);
}

StatusOr<std::unique_ptr<Device>> MakeDevice(int rank) {
  CudaOptions options;
  options.library = kLibrary;
  options.local_rank = rank;
  return MakeCudaDevice(options);
}

Status UseDevice() {
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeDevice(0));
  const Status failure = CatchFailure([&] {
    const Tensor x = RandomTensor(*device, {4, 40}, 1, 1, DType::kF32);
    const Tensor weight = RandomTensor(*device, {24, 40}, 2, 1, DType::kF32);
    const Tensor bias = RandomTensor(*device, {24}, 3, 1, DType::kF32);
    const Tensor y = Softmax(Linear(x, weight, bias));
    const std::unique_ptr<Queue> queue = device->NewQueue("copies");
    const std::unique_ptr<Event> event = device->Record(device->compute());
    device->Wait(*queue, *event);
    const Block pinned = ValueOrThrow(device->AllocatePinned(4 * 24 * sizeof(float)));
    device->Copy(pinned.data, y.view().data, 4 * 24 * sizeof(float), *queue);
    const std::unique_ptr<Event> copied = device->Record(*queue);
    device->Wait(device->compute(), *copied);
    device->Free(pinned);
    y.ToVector();
  });
  RETURN_IF_ERROR(failure);
  return device->Synchronize();
}

TEST(ReturnCodesTest, OfADevice) { ExpectEveryFailureIsNoticed(UseDevice); }

Status UseNccl() {
  CommOptions options;
  options.deadline = absl::Milliseconds(300);
  return RunOnRanks(2, options, [&](Communicator& control) -> Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeDevice(control.rank()));
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> world,
                     MakeNcclWorld(kLibrary, control, *device, options));
    return CatchFailure([&] {
      const Tensor x = RandomTensor(*device, {6}, 1, 1, DType::kF32);
      const Tensor all = RandomTensor(*device, {12}, 2, 1, DType::kF32);
      const Call call = {"test"};
      world->AllReduce(x, call)->Join(device->compute());
      world->AllGather(x, all, call)->Join(device->compute());
      world->ReduceScatter(all, x, call)->Join(device->compute());
      world->Broadcast(x, 0, call)->Join(device->compute());
      const int peer = 1 - control.rank();
      const std::unique_ptr<Work> sent = world->Send(x, peer, call);
      const Tensor received = RandomTensor(*device, {6}, 3, 1, DType::kF32);
      world->Recv(received, peer, call)->Join(device->compute());
      sent->Join(device->compute());
      ThrowIfError(world->Barrier(call)->Wait());
      received.ToVector();
      const auto half = ValueOrThrow(world->Split(0, control.rank(), "half"));
      half->AllReduce(x, call)->Join(device->compute());
      x.ToVector();
    });
  });
}

TEST(ReturnCodesTest, OfACommunicator) { ExpectEveryFailureIsNoticed(UseNccl); }

}  // namespace
}  // namespace trireme
