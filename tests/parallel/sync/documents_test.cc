// docs/synchronization.md names all that a row of an exchange can be made of.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "parallel/sync/codec.h"
#include "parallel/sync/mixer.h"
#include "parallel/sync/outer.h"
#include "parallel/sync/sync_rule.h"

namespace trireme {
namespace {

TEST(DocumentsTest, NameEveryEntry) {
  std::ifstream file(TRIREME_SOURCE_DIR "/docs/synchronization.md");
  std::stringstream text;
  text << file.rdbuf();
  std::vector<Listing> listings;
  AppendListings("sync_rule", SyncRules(), &listings);
  AppendListings("codec", Codecs(), &listings);
  AppendListings("mixer", Mixers(), &listings);
  AppendListings("outer", Outers(), &listings);
  for (const Listing& entry : listings) {
    EXPECT_TRUE(absl::StrContains(text.str(), absl::StrCat("`", entry.name, "`")))
        << entry.family << " " << entry.name;
  }
}

}  // namespace
}  // namespace trireme
