// The C ABI: no exception leaves it.
#include "abi.h"

#include <exception>
#include <new>

#include <cstdio>
#include <jpeglib.h>

#include "decode.h"
#include "failure.h"
#include "forms.h"
#include "idct.h"
#include "own_jpeg.h"
#include "probe.h"
#include "program.h"
#include "rows.h"
#include "segments.h"
#include "shared_store.h"
#include "store.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#if defined(LIBJPEG_TURBO_VERSION)
#define JPEG_NAME "libjpeg-turbo " STRING(LIBJPEG_TURBO_VERSION)
#else
#define JPEG_NAME "libjpeg " STRING(JPEG_LIB_VERSION)
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))

using greenload::Failure;
using greenload::Program;

struct gl_program : Program {
  using Program::Program;
};

struct gl_row {
  std::shared_ptr<greenload::Row> row;
};

struct gl_store {
  greenload::SharedStore store;
};

namespace {

void say(char* reason, const char* text) {
  if (reason) {
    snprintf(reason, GL_REASON, "%s", text);
  }
}

// Runs `work`; its gl_status, and why it isn't GL_OK.
template <class Work>
int32_t guarded(char* reason, Work work) {
  try {
    work();
    return GL_OK;
  } catch (const Failure& failure) {
    say(reason, failure.reason);
    return failure.status;
  } catch (const std::bad_alloc&) {
    say(reason, "there is too little memory");
  } catch (const std::exception& error) {
    say(reason, error.what());
  } catch (...) {
    say(reason, "an unknown error");
  }
  return GL_BAD_CALL;
}

// Of a file or of pixels.
int64_t bytes_in(const gl_step& first, const int64_t* size) {
  return first.op == GL_DECODE ? size[0] : size[0] * size[1] * size[2] * greenload::item_bytes(first.dtype_in);
}

}  // namespace

EXPORT int32_t gl_abi(void) { return GL_ABI; }

EXPORT const char* gl_version(void) { return greenload::uses_avx2() ? JPEG_NAME "; avx2" : JPEG_NAME "; scalar"; }

EXPORT gl_program* gl_program_new(const gl_step* steps, int32_t count, int32_t columns, char* reason) {
  gl_program* program = nullptr;
  guarded(reason, [&] { program = new gl_program(steps, count, columns); });
  return program;
}

EXPORT void gl_program_free(gl_program* program) { delete program; }

EXPORT void gl_probe(int64_t count, const uint8_t* const* files, const int64_t* lengths, int32_t kinds,
                     int64_t max_bytes, gl_header* headers) {
  for (int64_t i = 0; i < count; i++) {
    headers[i] = greenload::probe(files[i], lengths[i], kinds & GL_EXIF, max_bytes);
    if (!headers[i].plain && (kinds & GL_KEPT)) {
      headers[i] = greenload::probe_kept(files[i], lengths[i]);
    }
  }
}

EXPORT int64_t gl_run(gl_program* program, int64_t count, const void* const* images, const int64_t* sizes,
                      const double* params, void* const* outs, const int64_t* bytes, int32_t* status, char* reasons) {
  const int64_t sides = program->steps()[0].given.op == GL_DECODE ? 1 : 3;
  greenload::Worker worker;
  int64_t failed = 0;
  for (int64_t i = 0; i < count; i++) {
    char* reason = reasons + i * GL_REASON;
    status[i] = guarded(reason, [&] {
      if (!worker) {
        worker = program->take();
        worker.tally->begin();
      }
      worker.tally->begin_image();
      greenload::run_image(*program, worker, images[i], sizes + i * sides, params + i * program->columns(),
                           static_cast<uint8_t*>(outs[i]), bytes[i]);
    });
    failed += status[i] != GL_OK;
    if (worker && status[i] == GL_OK) {
      worker.tally->finish_image(bytes_in(program->steps()[0].given, sizes + i * sides), bytes[i]);
    } else if (worker) {
      worker.tally->finish_image(0, 0);
    }
    if (status[i] == GL_BAD_CALL && worker) {
      // Memory may have run out half way through a table.
      worker.tally->finish(program->counters());
      worker = {};
    }
  }
  if (worker) {
    guarded(nullptr, [&] {
      worker.tally->finish(program->counters());
      program->give_back(std::move(worker));
    });
  }
  return failed;
}

EXPORT void gl_counters(gl_program* program, gl_counter* counters) { program->counters().read(counters); }

EXPORT gl_row* gl_row_open(const char* name) {
  gl_row* row = nullptr;
  guarded(nullptr, [&] { row = new gl_row{greenload::named_row(name)}; });
  return row;
}

EXPORT void gl_row_add(gl_row* row, const gl_counter* more) { row->row->add(*more); }

EXPORT void gl_row_read(gl_row* row, gl_counter* counter) { *counter = row->row->read(); }

EXPORT void gl_row_close(gl_row* row) { delete row; }

EXPORT int64_t gl_rows(gl_named_counter* rows, int64_t capacity) {
  int64_t count = 0;
  guarded(nullptr, [&] { count = greenload::named_rows(rows, capacity); });
  return count;
}

EXPORT int32_t gl_program_count(gl_program* program, const char* name, const int32_t* numbers) {
  return guarded(nullptr, [&] { program->counters().share(name, numbers); }) == GL_OK;
}

EXPORT int64_t gl_transcode(const uint8_t* file, int64_t length, int32_t form, uint8_t* out, int64_t capacity,
                            int64_t* needed, char* reason) {
  int64_t written = 0;
  const int32_t status =
      guarded(reason, [&] { written = greenload::transcode(file, length, form, out, capacity, needed); });
  return status == GL_OK ? written : -1;
}

EXPORT void gl_cut(int64_t count, const uint8_t* const* files, const int64_t* lengths, const int64_t* windows,
                   uint8_t* out, int64_t capacity, gl_part* parts) {
  greenload::Segments segments;
  for (int64_t i = 0; i < count; i++, windows += 4) {
    parts[i] = {0, 0, 0};
    guarded(nullptr, [&] {
      if (!segments.read(files[i], static_cast<size_t>(lengths[i]))) {
        return;
      }
      const greenload::Window window = {windows[0], windows[1], windows[2], windows[3]};
      greenload::check_window(window, segments.height(), segments.width());
      const greenload::Segments::Cut cut =
          segments.cut(window, [&](size_t size) { return static_cast<int64_t>(size) <= capacity ? out : nullptr; });
      if (cut.file == out) {
        parts[i] = {static_cast<int64_t>(cut.length), window.top - cut.window.top, window.left - cut.window.left};
        out += parts[i].length;
        capacity -= parts[i].length;
      }
    });
  }
}

EXPORT gl_store* gl_store_open(const char* folder, const uint8_t* key, int64_t count, int64_t budget, char* reason) {
  gl_store* store = nullptr;
  guarded(reason, [&] { store = new gl_store{greenload::SharedStore(folder, key, count, budget)}; });
  return store;
}

EXPORT const uint8_t* gl_store_get(gl_store* store, int64_t index, int64_t* length) {
  const uint8_t* blob = nullptr;
  guarded(nullptr, [&] { blob = store->store->get(index, length); });
  return blob;
}

EXPORT int32_t gl_store_put(gl_store* store, int64_t index, const uint8_t* blob, int64_t length) {
  bool kept = false;
  guarded(nullptr, [&] { kept = store->store->put(index, blob, length); });
  return kept;
}

EXPORT const uint8_t* gl_store_keep(gl_store* store, int64_t index, const uint8_t* file, int64_t length, int32_t form,
                                    int64_t* kept_length, char* reason) {
  const uint8_t* blob = nullptr;
  say(reason, "");
  guarded(reason, [&] { blob = store->store->keep(index, file, length, form, kept_length); });
  return blob;
}

EXPORT void gl_store_flush(gl_store* store) {
  guarded(nullptr, [&] { store->store->flush(); });
}

EXPORT void gl_store_finish(gl_store* store) {
  guarded(nullptr, [&] { store->store->finish(); });
}

EXPORT void gl_store_forget(gl_store* store) {
  guarded(nullptr, [&] { store->store->forget(); });
}

EXPORT void gl_store_close(gl_store* store) { delete store; }

EXPORT void gl_store_state(gl_store* store, gl_store_state_t* state) { store->store->state(state); }

EXPORT int32_t gl_block_check(const char* path, int64_t* sound, int64_t* damaged, char* reason) {
  *sound = *damaged = 0;
  return guarded(reason, [&] { greenload::check_block(path, sound, damaged); }) == GL_OK;
}

EXPORT void gl_jpegs(gl_jpeg_count* counts) { *counts = greenload::OwnJpegDecoder::counts(); }

EXPORT void gl_inverse_dct(const int16_t* coefficients, const uint16_t* quant, int32_t last, int32_t portable,
                           uint8_t* samples) {
  (portable ? greenload::kPortableDctLoops : greenload::dct_loops()).inverse_dct(coefficients, quant, last, samples, 8);
}
