// greenload's native kernel: images through the steps of a segment, into the batch's memory. The one C ABI: Python
// calls it through ctypes, the TensorFlow op links to it.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GL_ABI 17         /* raised with every change of this file; the Python side checks it */
#define GL_REASON 256     /* bytes of a reason, its zero included */
#define GL_NAME 96        /* bytes of a counter's name, its zero included */

/* What became of an image. A bad file may still be one that another decoder accepts: its bytes are the reason (errors,
   and what libjpeg only warns of). In a bad call sizes, params or memory are. */
enum gl_status { GL_OK = 0, GL_BAD_FILE = 1, GL_BAD_CALL = 2 };

enum gl_dtype { GL_UINT8 = 0, GL_INT8 = 1, GL_FLOAT16 = 2, GL_BFLOAT16 = 3, GL_FLOAT32 = 4 };

/* What a step does. "Params" are float64, `count` of them from `column` of the image's row. */
enum gl_op {
  GL_DECODE = 1,  /* JPEG, or binary PPM ("P6", 255): to uint8 RGB. GL_WINDOW: only the window, params
                     [top, left, height, width] in the stored image; the same pixels as a whole decode, cropped */
  GL_TURN = 2,    /* params [orientation]: EXIF 1 … 8, upright afterwards */
  GL_CROP = 3,    /* params [top, left, height, width] */
  GL_PAD = 4,     /* params [top, left], then [height, width] where the step has no sides; `numbers` [fill] */
  GL_RESIZE = 5,  /* params [height, width] where the step has no sides; GL_ANTIALIAS */
  GL_FLIP = 6,    /* params [0 or 1]; GL_VERTICAL */
  GL_WARP = 7,    /* params [2 × 3 matrix]; `numbers` [fill] */
  GL_COLOR = 8,   /* params [3 × 4 matrix, for values in 0 … 1], then [0 or 1] with GL_MAYBE */
  GL_LOOKUP = 9,  /* params [0 or 1]; `table` of 256 bytes */
  GL_BLUR = 10,   /* params [sigma]; height × width taps */
  GL_ERASE = 11,  /* params [top, left, height, width], nothing where height is 0; `numbers` one a channel or one */
  GL_AFFINE = 12, /* no params; `numbers` [scales …, offsets …], half of `count` each, one a channel or one for all */
  GL_AUTOCONTRAST = 13, /* params [0 or 1] */
  GL_EQUALIZE = 14,     /* params [0 or 1] */
  GL_MIX = 15,    /* params [offset, weight, top, left, height, width]: `weight` (0 … 1; of levels a multiple of 2⁻¹²) of
                     the image and the rest of the one `offset` images behind it (before it where negative), and that one
                     alone in the window; height may be 0. Only as the first step: there all images of a batch have one
                     size and lie one behind another, also those that a call doesn't name */
  /* As `reference.py` has them: bit for bit, of uint8. Steps among GL_LOOKUP, GL_AUTOCONTRAST, GL_EQUALIZE and these but
     GL_SHARPEN that follow one another are one look-up, which is the first one's time. */
  GL_BRIGHTNESS = 16,   /* params [factor from 0]; 1: nothing */
  GL_CONTRAST = 17,     /* params [factor from 0]; 1: nothing. Of RGB */
  GL_POSTERIZE = 18,    /* params [bits 1 … 8]; 8: nothing */
  GL_SOLARIZE = 19,     /* params [threshold]; above 255: nothing */
  GL_SHARPEN = 20,      /* params [factor from 0]; 1: nothing */
  GL_PERSPECTIVE = 30,  /* params [3 × 3 matrix, 0 or 1]; `numbers` [fill] */
  /* Several results of one uint8 image, summed. Between GL_FORK and GL_SUM stand chains of steps; each begins with the
     image as it was at GL_FORK, and ends with GL_ADD, where it has that image's size. Weights are multiples of 2⁻¹⁶ from
     0, those of a sum together 1: it is exact, and rounded half up. */
  GL_FORK = 40,         /* no params */
  GL_ADD = 41,          /* params [weight] of the chain's result */
  GL_SUM = 42,          /* params [weight] of the image as it was at GL_FORK; the image is the sum then */
};

enum gl_flag { GL_WINDOW = 1, GL_ANTIALIAS = 2, GL_VERTICAL = 4, GL_MAYBE = 8 };

typedef struct {
  int32_t op;             /* gl_op */
  int32_t flags;          /* gl_flag */
  int32_t column;         /* of its first param; −1 where it has none */
  int32_t height, width;  /* sides after it where they are the same for every image; else 0. Of GL_BLUR: its taps */
  int32_t dtype_in, dtype_out; /* gl_dtype */
  int32_t count;          /* of `numbers` */
  const double* numbers;  /* copied by gl_program_new */
  const uint8_t* table;   /* copied */
} gl_step;

/* A segment's steps, ready to run in any number of threads. */
typedef struct gl_program gl_program;

int32_t gl_abi(void);               /* GL_ABI of the library that was loaded */
const char* gl_version(void);       /* "libjpeg-turbo 2.1.5; avx2" */

/* Null where a step isn't known or is out of range; `reason` [GL_REASON] says why. `columns` is a row's length. */
gl_program* gl_program_new(const gl_step* steps, int32_t count, int32_t columns, char* reason);
void gl_program_free(gl_program*);

typedef struct {
  int32_t plain; /* 1: a JPEG that gl_run decodes as every backend would, whole, within the limit; 0: ask elsewhere */
  int32_t height, width; /* as stored; 0 where not plain */
} gl_header;

enum gl_kinds { GL_EXIF = 1, GL_KEPT = 2 };

/* Looks at files' headers. `kinds`: GL_EXIF: a file that states an orientation other than 1 isn't plain. GL_KEPT: what
   gl_transcode makes is plain in every form. `max_bytes`: a file whose decoding takes more isn't; planes, coefficients
   and PPM are, as they were small enough when they were files. */
void gl_probe(int64_t count, const uint8_t* const* files, const int64_t* lengths, int32_t kinds, int64_t max_bytes,
              gl_header* headers);

/* Runs images through a program, one after another, in the calling thread.
   images:  files' bytes where the first step is GL_DECODE, else pixels [height, width, channels] without gaps
   sizes:   int64 [count]: bytes of each file; or int64 [count, 3]: height, width, channels
   params:  float64 [count, columns]
   outs:    where each result goes, without gaps; `bytes` says how many it must take (else the image fails)
   status:  gl_status of each image; where it isn't GL_OK, reasons + i * GL_REASON says why
   Returns how many failed. Nothing is written behind `bytes`. */
int64_t gl_run(gl_program*, int64_t count, const void* const* images, const int64_t* sizes, const double* params,
               void* const* outs, const int64_t* bytes, int32_t* status, char* reasons);

/* What a step has done so far, in all threads together. What another step does as well (a flip beside a resize, a crop
   behind one) takes no time. */
typedef struct {
  int64_t images;           /* or calls, or whatever is counted */
  int64_t nanoseconds;      /* CPU time of `timed` of them */
  int64_t bytes_in, bytes_out;
  int64_t timed;            /* those that weren't chosen to be timed are estimated by the others, and count here */
  int64_t wall_nanoseconds; /* of `timed` of them; steps of programs have none */
  int64_t crossed;          /* ended on another thread than they began on, so that they weren't timed */
} gl_counter;

/* Of each step of a program, [count of steps], then one more: whole images, of whose CPU time the steps' sum is nearly
   all. */
void gl_counters(gl_program*, gl_counter* counters);

/* Counters of the whole process, by name: whoever gives the same name adds to the same row, without a lock. A row is
   there for as long as a gl_row or a program holds it. Other parts than programs may count anything in one. */
typedef struct gl_row gl_row;
typedef struct { char name[GL_NAME]; gl_counter counter; } gl_named_counter;

/* The row of a name; null where it has none of 1 … GL_NAME − 1 bytes, or there is too little memory. */
gl_row* gl_row_open(const char* name);
void gl_row_add(gl_row*, const gl_counter* more);
void gl_row_read(gl_row*, gl_counter* counter);
void gl_row_close(gl_row*);

/* Copies as many rows as have room, in the order of their names; returns how many there are. */
int64_t gl_rows(gl_named_counter* rows, int64_t capacity);

/* Has a program count in the process's rows: step i in "name/numbers[i]", whole images in "name". So programs that share
   a name are counted together, and gl_counters gives their sums. A step of a negative number is counted apart. Before
   the first gl_run; 0 where it can't be. */
int32_t gl_program_count(gl_program*, const char* name, const int32_t* numbers);

/* What is kept of files between epochs. All forms are bytes that GL_DECODE reads: it tells them by their first bytes. */
enum gl_form {
  GL_ENCODED = 0,    /* the file as it is */
  GL_TRANSCODED = 1, /* a JPEG with the same coefficients: baseline, optimised Huffman codes, restart markers (about 8
                        segments a row), an index of its segments in an APP9 segment right behind SOI. Any decoder reads
                        it as a JPEG, to the same pixels; GL_DECODE decodes only the segments that a window needs */
  GL_PLANES = 2,     /* "GLYC": YCbCr planes at their own subsampling, as libjpeg's inverse DCT leaves them: the same
                        pixels at about 0.6 of RGB's bytes; GL_DECODE upsamples and converts only the window */
  GL_PIXELS = 3,     /* binary PPM */
  GL_COEFFICIENTS = 4, /* "GLDC": the JPEG's coefficients without Huffman codes, at about twice its bytes: the same
                          pixels; GL_DECODE transforms only the blocks that a window needs */
};

/* A plain JPEG in another form; GL_PIXELS also of planes, coefficients and PPM. Returns its bytes, written to `out`; 0
   where `capacity` is too small: then *needed says how many; −1 where it can't be: reason [GL_REASON] says why. */
int64_t gl_transcode(const uint8_t* file, int64_t length, int32_t form, uint8_t* out, int64_t capacity, int64_t* needed,
                     char* reason);

/* Where the image of a smaller JPEG begins in that of its file, and how many bytes it has: 0 where there is none. */
typedef struct { int64_t length, top, left; } gl_part;

/* Of files in the form GL_TRANSCODED smaller JPEGs, which any decoder reads, of the segments that windows need: in them
   the windows have the pixels that they have in the files. Files stay whole where they are in another form, damaged in
   the header or between segments, needed as a whole, don't hold their window, or there is no room.
   windows: int64 [count, 4]: top, left, height, width in the stored image
   out:     takes the JPEGs, one behind another; they have fewer bytes than their files */
void gl_cut(int64_t count, const uint8_t* const* files, const int64_t* lengths, const int64_t* windows, uint8_t* out,
            int64_t capacity, gl_part* parts);

/* A store of blobs by sample index: append-only, in RAM or in a folder; blobs stay where they are until the store is
   closed, so that readers need no lock and no copy. Safe in threads; a folder is shared by processes. A child process
   of the one that opened it reads what was there, and adds nothing: let it open its own. */
typedef struct gl_store gl_store;

/* folder: null for RAM. key: 32 bytes, the fingerprint of source, stages, form and versions: blocks of another key are
   left alone and not read. count: of samples. budget: the most bytes of blobs in RAM, each rounded up to 64, or of files
   of this key in the folder, by all processes together; 0: no limit, but of a disk a reserve stays free; in RAM, less
   than 0: the most bytes of all stores of this process together that were opened so. Null where it can't be opened;
   reason [GL_REASON] says why. Finds what other processes have written, and removes what a writer that was killed left
   half done.
   In a process there is one store of a folder (or of RAM), key and count: opened again it is the same one, which gets
   the budget given last. It is closed with the last of its handles. */
gl_store* gl_store_open(const char* folder, const uint8_t* key, int64_t count, int64_t budget, char* reason);

/* The blob of a sample; null where it isn't kept (yet), or its checksum doesn't hold (counted; it may be put anew). */
const uint8_t* gl_store_get(gl_store*, int64_t index, int64_t* length);

/* Keeps a copy. 1: kept, and gl_store_get gives it. 0: not: it is kept already, or another process is about to keep it,
   or the budget is used up, or the disk is full. A block that it fills is written before it returns. */
int32_t gl_store_put(gl_store*, int64_t index, const uint8_t* blob, int64_t length);

/* What is kept of a sample; where nothing is, keeps its file in a form (gl_form) first. A file that can't be kept in
   the form (another kind, CMYK, damaged, …) is kept as it is. Null where nothing is kept: for want of room, or as
   another process is about to keep it (then nothing was transcoded, and `reason` is empty), or else reason [GL_REASON]
   says why. Threads that ask for the same sample at once wait for the one that transcodes it. */
const uint8_t* gl_store_keep(gl_store*, int64_t index, const uint8_t* file, int64_t length, int32_t form,
                             int64_t* kept_length, char* reason);

/* Writes the block that is being filled, if there is one, tries those again that could not be written, and takes in
   what other processes have written since. */
void gl_store_flush(gl_store*);
/* As a process ends: flushes it, and writes blocks of its folder anew: small ones into one where there are many, which
   short processes have left; without their damaged blobs, those that have any. What is kept can still be read. */
void gl_store_finish(gl_store*);
/* For measuring: forgets what is kept, and removes its blocks, so that all is kept anew. Threads may be inside; a blob
   that was got before stays where it is until this is called once more. */
void gl_store_forget(gl_store*);
/* Gives a handle back. With the last one the store is finished and its memory goes: no blob of it may be in use. */
void gl_store_close(gl_store*);

typedef struct {
  int64_t kept, bytes;      /* samples; of blobs, each rounded up to 64, or in a folder of files */
  int64_t damaged, refused; /* blobs or blocks found damaged; blobs that weren't kept for want of room */
  int32_t full;             /* 1: a block could not be written: it is in memory, and no more are kept */
  char trouble[GL_REASON];  /* what went wrong last; empty: nothing */
} gl_store_state_t;

void gl_store_state(gl_store*, gl_store_state_t*);

/* Reads a block's file of a store, and compares every checksum. 1: its head and table are right; then *sound and
   *damaged count its blobs. 0: they aren't, or it can't be read: reason [GL_REASON] says which. */
int32_t gl_block_check(const char* path, int64_t* sound, int64_t* damaged, char* reason);

/* How many JPEGs this process has begun to decode: by the kernel itself, and by libjpeg, which gets those that are unusual
   or turn out to be damaged. */
typedef struct { int64_t own, libjpeg; } gl_jpeg_count;

void gl_jpegs(gl_jpeg_count*);

/* For tests: JPEG's inverse DCT of one block to samples [8, 8]; `coefficients` and `quant` [64] in natural order, `last`
   the index in zigzag order behind which all are zero. `portable`: 1: by the loops of every processor; 0: the best. */
void gl_inverse_dct(const int16_t* coefficients, const uint16_t* quant, int32_t last, int32_t portable,
                    uint8_t* samples);

#ifdef __cplusplus
}
#endif
