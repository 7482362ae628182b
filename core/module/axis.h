// The axes of the mesh, outermost first, and sets of them.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace trireme {

enum class Axis : uint8_t { kReplica, kPipeline, kShard, kSequence, kTensor };
inline constexpr int kNumAxes = 5;
inline constexpr std::array<Axis, kNumAxes> kAllAxes = {
    Axis::kReplica, Axis::kPipeline, Axis::kShard, Axis::kSequence, Axis::kTensor};

inline constexpr const char* AxisName(Axis axis) {
  constexpr const char* kNames[] = {"replica", "pipeline", "shard", "sequence", "tensor"};
  return kNames[static_cast<int>(axis)];
}

class AxisSet {
 public:
  constexpr AxisSet() = default;
  constexpr AxisSet(Axis axis) : bits_(1u << static_cast<int>(axis)) {}
  constexpr AxisSet(std::initializer_list<Axis> axes) {
    for (const Axis axis : axes) bits_ |= AxisSet(axis).bits_;
  }
  static constexpr AxisSet All() { return FromBits((1u << kNumAxes) - 1); }
  static constexpr AxisSet FromBits(unsigned bits) {
    AxisSet set;
    set.bits_ = bits;
    return set;
  }

  constexpr unsigned bits() const { return bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool Contains(AxisSet other) const { return (bits_ & other.bits_) == other.bits_; }

  friend constexpr AxisSet operator|(AxisSet a, AxisSet b) { return FromBits(a.bits_ | b.bits_); }
  friend constexpr AxisSet operator&(AxisSet a, AxisSet b) { return FromBits(a.bits_ & b.bits_); }
  friend constexpr AxisSet operator-(AxisSet a, AxisSet b) { return FromBits(a.bits_ & ~b.bits_); }
  friend constexpr bool operator==(AxisSet, AxisSet) = default;
  friend constexpr bool operator<(AxisSet a, AxisSet b) { return a.bits_ < b.bits_; }

  // "shard+sequence"; "none" when empty.
  std::string ToString() const {
    std::string text;
    for (const Axis axis : kAllAxes) {
      if (Contains(axis)) text += (text.empty() ? "" : "+") + std::string(AxisName(axis));
    }
    return text.empty() ? "none" : text;
  }

 private:
  unsigned bits_ = 0;
};

}  // namespace trireme
