// Operations of the emulated NCCL: each is bytes to send to peers, bytes to receive, and what to
// make of them. An operation advances as far as its peers let it and never blocks its device's
// worker.
//
// Before its bytes goes a header that says what the sender believes the operation is. Every rank of
// a collective sends one to every other, so ranks that call different things are found.
#pragma once

#include <nccl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/nccl_segment.h"

namespace trireme::emulation {

enum class CollectiveKind : uint32_t {
  kSend,
  kRecv,
  kAllReduce,
  kReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
};

// As the caller gave it.
struct CollectiveCall {
  CollectiveKind kind;
  const void* send = nullptr;
  void* receive = nullptr;
  uint64_t count = 0;
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t op = ncclSum;
  bool scaled = false;  // A sum of products with `scale`.
  double scale = 1;
  int peer = 0;  // Or the root.
};

size_t NcclTypeBytes(ncclDataType_t type);  // 0 for those that are not emulated.
std::string DescribeCall(const CollectiveCall& call);
inline bool IsCollective(const CollectiveCall& call) {
  return call.kind != CollectiveKind::kSend && call.kind != CollectiveKind::kRecv;
}

class Operation {
 public:
  Operation(const CollectiveCall& call, const Segment& segment, int rank, int num_ranks,
            uint64_t number);

  // Checks the memory; empty, or what is wrong.
  std::string Begin(DeviceMemory& memory);
  // The ends of rings that earlier operations of a group still use.
  struct Taken {
    std::vector<const Ring*> sends, receives;
  };
  // Sends and receives what goes without waiting, and adds to `taken` where it is not done. Returns
  // whether anything moved.
  bool Advance(Taken& taken);
  bool done() const { return done_; }
  // Of headers that say something else than ours.
  const std::string& mismatch() const { return mismatch_; }
  // Puts the results where they belong.
  std::string Finish(DeviceMemory& memory);
  // Ranks that we still wait for.
  void MarkNeeded() const;
  std::string Describe() const;

 private:
  struct Header {
    uint64_t number;
    uint64_t count;
    uint32_t kind;
    uint32_t type;
    uint32_t op;
    uint32_t root;
  };
  struct Transfer {
    Ring* ring;
    int peer;
    Header header;
    const unsigned char* from;         // Of what is sent.
    std::vector<unsigned char> bytes;  // Received.
    size_t size;
    size_t moved = 0;  // Header included.
    bool done() const { return moved == sizeof(Header) + size; }
  };

  Header MakeHeader() const;
  void Send(int peer, const void* data, size_t bytes);
  void Receive(int peer, size_t bytes);
  void CheckHeader(const Transfer& transfer);
  template <typename T>
  void Reduce(uint64_t first, uint64_t count, unsigned char* result) const;
  void ReduceTo(uint64_t first, uint64_t count, void* result) const;

  const CollectiveCall call_;
  const Segment& segment_;
  const int rank_;
  const int num_ranks_;
  const uint64_t number_;
  bool is_collective_;
  std::vector<Transfer> sends_, receives_;
  bool done_ = false;
  std::string mismatch_;
};

}  // namespace trireme::emulation
