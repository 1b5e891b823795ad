#include "files.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block.h"
#include "failure.h"

namespace greenload {

namespace {

constexpr double kReserveShare = 0.05, kReserveBytes = 1e9;  // of a file system: the less of both

}  // namespace

OpenFile::~OpenFile() {
  if (number >= 0) {
    close(number);
  }
}

bool read_at(int file, void* to, size_t size, int64_t offset) {
  uint8_t* at = static_cast<uint8_t*>(to);
  while (size) {
    const ssize_t count = pread(file, at, size, offset);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      errno = count ? errno : 0;
      return false;
    }
    at += count;
    offset += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

bool write_all(int file, const void* from, size_t size) {
  const uint8_t* at = static_cast<const uint8_t*>(from);
  while (size) {
    const ssize_t count = write(file, at, size);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      errno = count ? errno : ENOSPC;
      return false;
    }
    at += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

bool leaves_reserve(const std::string& folder, int64_t bytes) {
  struct statvfs disk;
  if (statvfs(folder.c_str(), &disk) != 0) {
    return true;  // what is wrong is said where it is written
  }
  const double unit = static_cast<double>(disk.f_frsize);
  const double reserve = std::min(kReserveShare * unit * static_cast<double>(disk.f_blocks), kReserveBytes);
  return unit * static_cast<double>(disk.f_bavail) - static_cast<double>(bytes) >= reserve;
}

bool make_folder(const std::string& path) {
  int above = 0;  // why one above it isn't made, which may be there already
  for (size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const bool made = mkdir(path.substr(0, at).c_str(), 0777) == 0 || errno == EEXIST;
    if (at == std::string::npos) {
      errno = !made && errno == ENOENT && above ? above : errno;
      return made;
    }
    above = made || above ? above : errno;
  }
}

std::string key_folder(const char* folder, const uint8_t* key) {
  std::string path = std::string(folder) + "/";
  for (size_t i = 0; i < kKeyBytes; i++) {
    char digits[3];
    snprintf(digits, sizeof digits, "%02x", key[i]);
    path += digits;
  }
  char real[PATH_MAX];
  struct stat status;
  if (!make_folder(path) || !realpath(path.c_str(), real) || stat(real, &status) != 0) {
    fail(GL_BAD_CALL, "%s", strerror(errno));
  }
  if (!S_ISDIR(status.st_mode)) {
    fail(GL_BAD_CALL, "%s", strerror(ENOTDIR));
  }
  return real;
}

bool names_in(const std::string& folder, const char* suffix, std::vector<std::string>* names) {
  const size_t length = strlen(suffix);
  DIR* entries = opendir(folder.c_str());
  if (!entries) {
    return false;
  }
  errno = 0;
  while (const dirent* entry = readdir(entries)) {
    const std::string name = entry->d_name;
    if (name.size() > length && name.compare(name.size() - length, length, suffix) == 0) {
      names->push_back(name);
    }
    errno = 0;
  }
  const int error = errno;
  closedir(entries);
  errno = error;
  return error == 0;
}

}  // namespace greenload
