//! What a guest can try, in words.

use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    ptr,
    sync::mpsc,
    time::{Duration, Instant},
};

/// As Python does: a file over its limit is an error, and not the end.
pub(crate) fn prepare() {
    // SAFETY: no handler is called.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Makes an attempt, and says `ok ...` or the number of the error.
pub(crate) fn make(attempt: &str) -> String {
    let words: Vec<&str> = attempt.split(' ').collect();
    let done = match words.as_slice() {
        ["read", path] => fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        ["list", path] => list(path),
        ["write", path] => fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .and_then(|mut file| file.write_all(b"hello").map(|()| String::new())),
        ["fill", path] => fill(path),
        ["files", path] => Ok(files(path)),
        ["sys", number, arguments @ ..] => call(number, arguments),
        ["map", bytes, protection, flags] => {
            map(parse(bytes), parse(protection), parse(flags)).map(|_| String::new())
        }
        ["mapfile", path, bytes, protection] => map_file(path, parse(bytes), parse(protection)),
        ["freeze", bytes, times] => Ok(freeze(parse(bytes), parse(times))),
        ["threads", most] => Ok(threads(parse(most))),
        ["descriptors"] => Ok(descriptors()),
        ["environment"] => Ok(std::env::vars().map(|(name, _)| name).collect::<Vec<_>>().join(",")),
        ["spin", ms] => Ok(spin(parse(ms) as u64)),
        ["repeat", times, number, arguments @ ..] => Ok(repeat(parse(times), number, arguments)),
        ["chdir", path] => std::env::set_current_dir(path).map(|()| String::new()),
        // SAFETY: it does not come back.
        ["abort"] => unsafe { libc::abort() },
        _ => panic!("no such attempt: {attempt}"),
    };
    match done {
        Ok(text) => format!("ok {}", text.trim_end().replace('\n', "|")),
        Err(error) => {
            error.raw_os_error().map_or_else(|| error.to_string(), |errno| errno.to_string())
        }
    }
}

fn parse(word: &str) -> usize {
    match word.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).expect("hexadecimal"),
        None => word.parse::<isize>().expect("a number") as usize,
    }
}

fn list(path: &str) -> io::Result<String> {
    let names =
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names.join(","))
}

/// Writes until there is no room.
fn fill(path: &str) -> io::Result<String> {
    let mut file = fs::File::create(path)?;
    let mut total = 0;
    loop {
        match file.write(&[1; 4096]) {
            Ok(length) => total += length,
            Err(error) => return Ok(format!("{total} {}", error.raw_os_error().unwrap_or(0))),
        }
    }
}

/// Makes files until there is no room.
fn files(path: &str) -> String {
    for number in 0.. {
        if let Err(error) = fs::File::create(format!("{path}/f{number}")) {
            return format!("{number} {}", error.raw_os_error().unwrap_or(0));
        }
    }
    String::new()
}

/// A system call: numbers, `@text` for a string, `#bytes` for so many zero bytes.
fn call(number: &str, arguments: &[&str]) -> io::Result<String> {
    let mut kept = Vec::new();
    let mut values = [0_usize; 6];
    for (value, word) in values.iter_mut().zip(arguments) {
        let memory = match (word.strip_prefix('@'), word.strip_prefix('#')) {
            (Some(text), _) => CString::new(text).expect("text").into_bytes_with_nul(),
            (_, Some(bytes)) => vec![0; parse(bytes)],
            _ => {
                *value = parse(word);
                continue;
            }
        };
        kept.push(memory);
        *value = kept.last().expect("just kept").as_ptr() as usize;
    }
    let [a, b, c, d, e, f] = values;
    // SAFETY: none; to find out what happens is what this program is for.
    let result = unsafe { libc::syscall(parse(number) as libc::c_long, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result.to_string()) }
}

fn map(bytes: usize, protection: usize, flags: usize) -> io::Result<usize> {
    // SAFETY: memory of its own.
    let at = unsafe { libc::mmap(ptr::null_mut(), bytes, protection as i32, flags as i32, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if protection as i32 & libc::PROT_WRITE != 0 {
        // SAFETY: it was just mapped, writable and so long.
        unsafe { ptr::write_bytes(at.cast::<u8>(), 1, bytes) };
    }
    Ok(at as usize)
}

fn map_file(path: &str, bytes: usize, protection: usize) -> io::Result<String> {
    let path = CString::new(path).expect("text");
    // SAFETY: memory of its own.
    let at = unsafe {
        let mode = if protection & 2 != 0 { libc::O_RDWR } else { libc::O_RDONLY };
        let fd = libc::open(path.as_ptr(), mode);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::mmap(ptr::null_mut(), bytes, protection as i32, libc::MAP_SHARED, fd, 0)
    };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(String::new()) }
}

/// Fills memory and makes it unwritable, again and again: how much there is in the end.
fn freeze(bytes: usize, times: usize) -> String {
    for time in 0..times {
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
        let frozen = map(bytes, 3, flags).and_then(|at| {
            // SAFETY: it was just mapped.
            match unsafe { libc::mprotect(at as *mut libc::c_void, bytes, libc::PROT_READ) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
        if let Err(error) = frozen {
            return format!("{} {}", time * bytes, error.raw_os_error().unwrap_or(0));
        }
    }
    format!("{} 0", times * bytes)
}

/// How many threads can be had at once.
fn threads(most: usize) -> String {
    let mut kept = Vec::new();
    for number in 0..most {
        let (keep, end) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        match thread.spawn(move || end.recv()) {
            Ok(_) => kept.push(keep),
            Err(error) => return format!("{number} {}", error.raw_os_error().unwrap_or(0)),
        }
    }
    format!("{most} 0")
}

fn descriptors() -> String {
    // SAFETY: plain numbers.
    let open = (0..1024).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
    open.map(|fd| fd.to_string()).collect::<Vec<_>>().join(",")
}

/// Nanoseconds for each time that a system call is made.
fn repeat(times: usize, number: &str, arguments: &[&str]) -> String {
    let start = Instant::now();
    for _ in 0..times {
        let _ = call(number, arguments);
    }
    (start.elapsed().as_nanos() / times.max(1) as u128).to_string()
}

fn spin(ms: u64) -> String {
    let start = Instant::now();
    let mut turns = 0_u64;
    while start.elapsed() < Duration::from_millis(ms) {
        turns += 1;
    }
    (turns > 0).to_string()
}
