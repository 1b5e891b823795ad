// What a store does to its folder as its process ends: blocks that are small or damaged are written anew.
#pragma once
#include <string>
#include <unordered_set>

#include "block.h"

namespace greenload {

// Writes the blobs of a folder's small blocks into one block, where there are more than a few: each short process
// leaves one. So it does with what is sound and nowhere else of `ailing`, the names of blocks in which blobs are
// damaged, or of which other blocks have most. Each blob is there at any time; processes that read the old blocks keep
// their maps. Its caller has the turn (FolderLocks). Throws std::bad_alloc.
void merge_blocks(const std::string& folder, const Block::Identity& identity,
                  const std::unordered_set<std::string>& ailing);
// Whether there may be something to do, by a look that needs no turn.
bool may_merge(const std::string& folder, const std::unordered_set<std::string>& ailing);

}  // namespace greenload
