// The kernel as operations of TensorFlow, for its graphs: on files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

#include "abi.h"
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
  void read(Construction*, Status*) {}
};

void read_files(Read&, Call& call) {
  const Tensor* paths = call.input(0);
  if (call.failed()) return;
  const int64_t count = TF_TensorElementCount(paths);
  Tensor* files = call.output(0, STRING, dims_of(paths), count * sizeof(String));
  if (call.failed()) return;
  std::string path;
  for (int64_t i = 0; i < count; i++) {
    int64_t length = 0;
    const uint8_t* text = text_of(data_of<String>(paths)[i], length);
    path.assign(reinterpret_cast<const char*>(text), length);
    if (length) read_file(path.c_str(), data_of<String>(files)[i]);
  }
}

// ---- registration

__attribute__((constructor)) void register_all() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) return;
  Status* status = TF_NewStatus();
  add<Read, read_files>("GreenloadRead", {"paths: string"}, {"files: string"}, {}, same_shape, status);
  TF_DeleteStatus(status);
}

}  // namespace
