// Strict reading of configs: text proto and `path.to.key=value` assignments into a Protobuf
// message, with the origin of every value.
//
// Not Protobuf's own text parser, which names neither the key of a wrong value nor the nearest
// known key, and takes the last of two equal map keys without a word. The dialect is text proto
// with one liberty: in a message that has `map<string, string> params` (a component), `key: value`
// is a parameter and, where there are `parts`, `key { ... }` is a part.
#pragma once

#include <google/protobuf/message.h>

#include <map>
#include <string>

#include "absl/strings/string_view.h"

#include "core/base/status.h"

namespace trireme {

// Dotted paths ("optimizer.beta1", "groups.0.pattern", "model.S.window") to where the value or
// message was given: "run.textproto:12:3" or "--set".
using Origins = std::map<std::string, std::string>;

// Fills `message`, which must be empty, from `text`. Errors are one line, "name:line:column: what".
// A message that failed is left half filled.
Status ReadTextProto(absl::string_view name, absl::string_view text,
                     google::protobuf::Message* message, Origins* origins);

// "batch.global_batch_size=32". The last of several assignments to a key wins. Reaches into
// components: "optimizer.beta1=0.9". The index of a repeated message must exist.
Status ApplyAssignment(absl::string_view assignment, google::protobuf::Message* message,
                       Origins* origins);

}  // namespace trireme
