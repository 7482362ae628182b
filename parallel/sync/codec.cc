#include "parallel/sync/codec.h"

#include "core/base/log.h"
#include "parallel/sync/block_scale.h"
#include "parallel/sync/e3m0.h"
#include "parallel/sync/fp8_e4m3.h"
#include "parallel/sync/half_codecs.h"
#include "parallel/sync/identity_codec.h"
#include "parallel/sync/int8.h"
#include "parallel/sync/powersgd.h"
#include "parallel/sync/rand_k.h"
#include "parallel/sync/sign.h"
#include "parallel/sync/top_k.h"
#include "parallel/sync/two_bit.h"

namespace trireme {

int64_t Codec::LinearSize(const CodecPiece&, int) const {
  LOG(FATAL) << "not a linear codec";
  return 0;
}

void Codec::LinearStart(const CodecPiece&, uint64_t, const View&) const {}

void Codec::LinearEncode(int, const CodecPiece&, const RoundKey&, const View&, const View&,
                         const View&) const {
  LOG(FATAL) << "not a linear codec";
}

void Codec::LinearDecode(int, const CodecPiece&, const RoundKey&, const View&, const View&,
                         const View&) const {
  LOG(FATAL) << "not a linear codec";
}

absl::Span<const Entry<CodecFactory>> Codecs() {
  static constexpr Entry<CodecFactory> kEntries[] = {
#define CODEC(name, doc, params, factory) {#name, doc, params, factory},
#include "parallel/sync/codecs.def"
#undef CODEC
  };
  return kEntries;
}

StatusOr<std::unique_ptr<Codec>> MakeCodec(absl::string_view name, const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("codec", Codecs(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  return entry->factory(checked);
}

}  // namespace trireme
