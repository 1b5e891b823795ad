// A JPEG's image in another form: its planes, its coefficients, or these as another JPEG.
#pragma once
#include "buffer.h"
#include "coefficients.h"
#include "jpeg_errors.h"
#include "planes.h"
#include "probe.h"

namespace greenload {

// A libjpeg destination: memory that grows.
struct JpegMemory {
  jpeg_destination_mgr base;  // first, so that libjpeg's pointer to it is one to this
  uint8_t* data;
  size_t size, used;
};

class Recoder {
 public:
  Recoder();
  ~Recoder();
  Recoder(const Recoder&) = delete;
  Recoder& operator=(const Recoder&) = delete;

  // Planes without pointers: their sizes. Throws a Failure where planes would not give a JPEG's pixels.
  Planes plan(const uint8_t* file, size_t length);
  // Reads the planes of the file that was planned, into a file of `planes.bytes()`.
  void read(const Planes& planes, uint8_t* to);
  // Writes the coefficients of the file that was planned.
  void pack(const Planes& planes, CoefficientsWriter* writer);

  // The same coefficients, baseline, with optimised Huffman codes, restart markers, and the markers that applications
  // wrote. `segments`: how many there should be in a row. Valid until the next call.
  Bytes transcode(const uint8_t* file, size_t length, int segments);

 private:
  // Each returns false where libjpeg gave up, and errors_.reason says why. libjpeg leaves them by longjmp, so they hold
  // nothing that has a destructor.
  bool create();
  bool open(const uint8_t* file, size_t length, bool markers);
  bool read_planes(const Planes& planes);
  bool pack_rows(const Planes& planes, CoefficientsWriter* writer);
  bool write(int segments, Bytes exif);
  void stop();
  [[noreturn]] void give_up();

  jpeg_decompress_struct from_;
  jpeg_compress_struct to_;
  jpeg_progress_mgr progress_;
  JpegErrors errors_;
  JpegMemory made_;
  Buffer rows_;
  JSAMPROW at_[3][32];
  uint8_t* targets_[3];
};

}  // namespace greenload
