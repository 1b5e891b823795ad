// The kernel as operations of TensorFlow, for its graphs: on files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "abi.h"
#include "crew.h"
#include "operation.h"

namespace {

// ---- GreenloadRead: whole files; empty where one can't be read, or is no regular file

bool filled(int file, char* at, size_t size) {
  while (size) {
    const ssize_t count = read(file, at, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;  // it has become shorter meanwhile: so it isn't whole
    at += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

void read_file(const char* path, String& text) {
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);  // for a pipe it doesn't wait
  if (file < 0) return;
  struct stat seen;
  if (fstat(file, &seen) == 0 && S_ISREG(seen.st_mode)) {
    const size_t size = static_cast<size_t>(seen.st_size);
    char* room = room_for(text, size);
    if (room && !filled(file, room, size)) give_back(text);
  }
  close(file);
}

struct Read {
  int64_t helpers = 0;
  void read(Construction* c, Status* status) { TF_OpKernelConstruction_GetAttrInt64(c, "helpers", &helpers, status); }
};

void read_files(Read& kernel, Call& call) {
  const Tensor* paths = call.input(0);
  if (call.failed()) return;
  const int64_t count = TF_TensorElementCount(paths);
  Tensor* files = call.output(0, STRING, dims_of(paths), count * sizeof(String));
  if (call.failed()) return;
  greenload::share(count, 1, kernel.helpers, [paths, files](int64_t first, int64_t some) {
    char path[PATH_MAX];
    for (int64_t i = first; i < first + some; i++) {
      int64_t length = 0;
      const uint8_t* text = text_of(data_of<String>(paths)[i], length);
      if (length <= 0 || length >= PATH_MAX) continue;  // no file has a longer path
      std::memcpy(path, text, length);
      path[length] = 0;
      read_file(path, data_of<String>(files)[i]);
    }
  });
}

// ---- what is kept of files

// The store that an attribute names, as `op.store_attribute` in Python writes it: int32 GL_ABI, int64 count of samples,
// int64 budget, 32 bytes of its key, then the folder; none for RAM. Open for as long as the operation's kernel is.
class Kept {
 public:
  Kept() = default;
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept() {
    if (store_) gl_store_close(store_);
  }
  void read(Construction* c, Status* status) {
    int32_t list = 0, length = 0;
    TF_OpKernelConstruction_GetAttrSize(c, "store", &list, &length, status);
    std::string bytes(length > 0 ? length : 0, 0);
    if (TF_GetCode(status) == OK)
      TF_OpKernelConstruction_GetAttrString(c, "store", &bytes[0], bytes.size(), status);
    if (TF_GetCode(status) != OK) return;
    int32_t abi = 0;
    int64_t budget = 0;
    if (bytes.size() < kHead || (std::memcpy(&abi, &bytes[0], 4), abi != GL_ABI))
      return TF_SetStatus(status, INVALID_ARGUMENT, "greenload: what is kept is of another version");
    std::memcpy(&count_, &bytes[4], 8);
    std::memcpy(&budget, &bytes[12], 8);
    const std::string folder = bytes.substr(kHead);
    char reason[GL_REASON] = "";
    store_ = count_ < 1 ? nullptr
                        : gl_store_open(folder.empty() ? nullptr : folder.c_str(),
                                        reinterpret_cast<const uint8_t*>(&bytes[20]), count_, budget, reason);
    if (!store_) TF_SetStatus(status, INVALID_ARGUMENT, reason);
  }
  bool knows(const Tensor* indices, Call& call) const {
    for (int64_t i = 0; i < TF_TensorElementCount(indices); i++) {
      const int64_t index = data_of<int64_t>(indices)[i];
      if (index < 0 || index >= count_) return call.fail(INVALID_ARGUMENT, "greenload: there is no such sample");
    }
    return true;
  }
  gl_store* store() const { return store_; }

 private:
  static constexpr size_t kHead = 4 + 8 + 8 + 32;
  gl_store* store_ = nullptr;
  int64_t count_ = 0;
};

// ---- GreenloadRecall: what is kept of samples, where it lies; empty where nothing is

void recall(Kept& kept, Call& call) {
  const Tensor* indices = call.input(0);
  if (call.failed() || !kept.knows(indices, call)) return;
  const int64_t count = TF_TensorElementCount(indices);
  Tensor* blobs = call.output(0, STRING, dims_of(indices), count * sizeof(String));
  for (int64_t i = 0; i < count && !call.failed(); i++) {
    int64_t length = 0;
    const uint8_t* blob = gl_store_get(kept.store(), data_of<int64_t>(indices)[i], &length);
    if (blob) view(data_of<String>(blobs)[i], blob, length);
  }
}

// ---- GreenloadKeep: keeps files, each in a form, and gives what is kept; where there is no room, the file

struct Keep {
  Kept kept;
  int64_t helpers = 0;
  void read(Construction* c, Status* status) {
    kept.read(c, status);
    if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrInt64(c, "helpers", &helpers, status);
  }
};

void keep(Keep& kernel, Call& call) {
  Kept& kept = kernel.kept;
  const Tensor *indices = call.input(0), *files = call.input(1), *forms = call.input(2);
  if (call.failed() || !kept.knows(indices, call)) return;
  const int64_t count = TF_TensorElementCount(indices);
  if (TF_TensorElementCount(files) != count || TF_TensorElementCount(forms) != count) {
    call.fail(INVALID_ARGUMENT, "greenload: not a file and a form a sample");
    return;
  }
  Tensor* blobs = call.output(0, STRING, dims_of(indices), count * sizeof(String));
  if (call.failed()) return;
  const auto one = [&](int64_t i) {
    int64_t length = 0, kept_length = 0;
    const uint8_t* file = text_of(data_of<String>(files)[i], length);
    if (!length) return;
    String& out = data_of<String>(blobs)[i];
    char reason[GL_REASON] = "";
    const uint8_t* blob = gl_store_keep(kept.store(), data_of<int64_t>(indices)[i], file, length,
                                        data_of<int32_t>(forms)[i], &kept_length, reason);
    if (blob) {
      view(out, blob, kept_length);
    } else if (char* room = room_for(out, length)) {
      std::memcpy(room, file, length);
    }
  };
  greenload::share(count, 1, kernel.helpers, [&](int64_t first, int64_t some) {
    for (int64_t i = first; i < first + some; i++) one(i);
  });
}

// ---- registration

__attribute__((constructor)) void register_all() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) return;
  Status* status = TF_NewStatus();
  add<Read, read_files>("GreenloadRead", {"paths: string"}, {"files: string"}, {"helpers: int = 0"}, same_shape, status);
  if (TF_GetCode(status) == OK)
    add<Kept, recall>("GreenloadRecall", {"indices: int64"}, {"blobs: string"}, {"store: string"}, same_shape, status);
  if (TF_GetCode(status) == OK)
    add<Keep, keep>("GreenloadKeep", {"indices: int64", "files: string", "forms: int32"}, {"blobs: string"},
                    {"store: string", "helpers: int = 0"}, same_shape, status);
  TF_DeleteStatus(status);
}

}  // namespace
