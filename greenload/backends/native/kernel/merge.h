// What short processes leave behind: small blocks, that become one.
#pragma once
#include <string>

#include "block.h"

namespace greenload {

// Writes the blobs of a folder's small blocks into a block, and removes those, where there are more than a few. Each
// blob is there at any time; processes that read the old ones keep their maps. Only one process at a time does it.
// Throws std::bad_alloc.
void merge_small(const std::string& folder, const Block::Identity& identity);

}  // namespace greenload
