// CRC-32C (Castagnoli), by the processor's instruction where it has one.
#pragma once
#include <cstddef>
#include <cstdint>

namespace greenload {

// Of `data`; `before` is that of what came before it.
uint32_t crc32c(const void* data, size_t length, uint32_t before = 0);

}  // namespace greenload
