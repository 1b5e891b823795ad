// Tables of 256 levels that are made from an image of uint8: [channels, 256], in `memory`.
#pragma once
#include "buffer.h"
#include "image.h"

namespace greenload {

// From each channel's least and largest value to 0 … 255, as Pillow's ImageOps.autocontrast; a channel of one value
// stays as it is.
const uint8_t* autocontrast_tables(const Image& image, Buffer& memory);

// By how many of each channel's values are below a level, as Pillow's ImageOps.equalize.
const uint8_t* equalize_tables(const Image& image, Buffer& memory);

}  // namespace greenload
