"""Mutations of the OSS backend and its HTTP."""

from __future__ import annotations

from mutated.mutation import Mutation

HTTP1 = "backends/_http/http1.py"
OPTIONS = "backends/oss/options.py"
CREDENTIALS = "backends/oss/credentials.py"
SIGNING = "backends/oss/signing.py"
CONNECTIONS = "backends/oss/transport.py"
DOCUMENTS = "backends/oss/xml.py"
ADDRESSING = "backends/oss/addressing.py"
HTTP1_TESTS = ("tests/oss/test_bounds_of_answers.py",)
OPTIONS_TESTS = ("tests/oss/test_bounds_of_options.py",)
CREDENTIALS_TESTS = ("tests/oss/test_credentials.py",)
SIGNING_TESTS = ("tests/oss/test_signing.py",)
CONNECTIONS_TESTS = ("tests/oss/test_transport.py",)
DOCUMENTS_TESTS = ("tests/oss/test_xml.py",)
ADDRESSING_TESTS = ("tests/oss/test_addressing.py",)
URLS = "backends/oss/urls.py"
URLS_TESTS = ("tests/oss/test_urls.py",)

MUTATIONS = [
    # --- the way to OSS ----------------------------------------------------------------------------------------------
    Mutation(
        "part heads that were signed long ago are used again",
        "backends/oss/backend.py",
        "same = (key, upload_id, issued.generation, int(now))",
        "same = (key, upload_id, issued.generation, 0)",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the clock's offset is taken when the answer comes",
        "backends/oss/backend.py",
        "self._clock.correct(theirs, sent.offset)",
        "self._clock.correct(theirs, self._clock.offset)",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "an answer by plain HTTP corrects the clock as far as one by TLS",
        "backends/oss/backend.py",
        'authenticated=scheme == "https" or (found is None and is_loopback(host))',
        "authenticated=True",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the clock is corrected without bound",
        "backends/oss/clock.py",
        "        if not abs(server_time - now) <= self._limit:",
        "        if False:",
        ("tests/oss/test_clock.py",),
    ),
    Mutation(
        "the host is not signed",
        "backends/oss/backend.py",
        '_ADDITIONAL_HEADERS = ("host",)',
        "_ADDITIONAL_HEADERS = ()",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the wait that a failing storage asks for is taken from throttling alone",
        "backends/oss/errors.py",
        "retry_after(answer) if retryable else None",
        "retry_after(answer) if kind is Throttled else None",
        ("tests/oss/test_errors.py",),
    ),
    Mutation(
        "the storage may ask for any wait",
        "backends/oss/errors.py",
        "min(max(seconds, 0.0), _RETRY_AFTER_SECONDS_MAX)",
        "max(seconds, 0.0)",
        ("tests/oss/test_errors.py",),
    ),
    Mutation(
        "a body is not closed when sending fails",
        "backends/oss/transport.py",
        "            if isinstance(body, GeneratorType):",
        "            if False:",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "an answer may drip for ever",
        "backends/oss/transport.py",
        "_SILENCES_PER_ANSWER * read_timeout",
        "1e9",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a TLS record may drip for ever",
        "backends/_http/tls_pump.py",
        "            return self._done(partial(self._tls.read, size), self.deadline)",
        "            return self._done(partial(self._tls.read, size))",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a TLS handshake may drip for ever",
        "backends/_http/tls_pump.py",
        "self._done(self._tls.do_handshake, deadline)",
        "self._done(self._tls.do_handshake)",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a proxy may drip for ever",
        "backends/oss/transport.py",
        'read_answer(_receiving(sock, deadline), "CONNECT")',
        'read_answer(sock.recv, "CONNECT")',
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a proxy that asks for a password is asked again",
        "backends/oss/transport.py",
        "transient = not lasting or answer.status in (408, 429)",
        "transient = True",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "what is not TLS is connected to again and again",
        "backends/oss/transport.py",
        "return not ended and error.reason not in _TRANSIENT_TLS",
        "return False",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a handshake that breaks is final",
        "backends/oss/transport.py",
        "return not ended and error.reason not in _TRANSIENT_TLS",
        "return True",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a list of parts has no end",
        "backends/oss/backend.py",
        "if count > most or empty > _EMPTY_PAGES_MAX:",
        "if empty > _EMPTY_PAGES_MAX:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a list of empty pages has no end",
        "backends/oss/backend.py",
        "if count > most or empty > _EMPTY_PAGES_MAX:",
        "if count > most:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a size of any length is read",
        "backends/oss/backend.py",
        " and len(length) <= _SIZE_DIGITS_MAX",
        "",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a page of any number of elements is read",
        "backends/oss/xml.py",
        'text.count("<") > 2 * _ELEMENTS_MAX',
        "False",
        ("tests/oss/test_xml.py",),
    ),
    Mutation(
        "a document of any depth is read",
        "backends/oss/xml.py",
        "if depth > _DEPTH_MAX:",
        "if False:",
        ("tests/oss/test_xml.py",),
    ),
    Mutation(
        "elements of any number of attributes are read",
        "backends/oss/xml.py",
        "if len(_ATTRIBUTES.findall(text)) > _WITH_ATTRIBUTES_MAX:",
        "if False:",
        ("tests/oss/test_xml.py",),
    ),
    Mutation(
        "the frames of chunks do not count",
        "backends/_http/http1.py",
        "if len(body) + size + framing > BODY_BYTES_MAX:",
        "if len(body) + size > BODY_BYTES_MAX:",
        ("tests/oss/http/test_http1.py",),
    ),
    Mutation(
        "an answer has any number of headers",
        "backends/_http/http1.py",
        "if len(fields) > HEADERS_MAX:",
        "if False:",
        ("tests/oss/http/test_http1.py",),
    ),
    Mutation(
        "a weak ETag is another one",
        "backends/oss/xml.py",
        "        etag = etag[2:]",
        "        pass",
        ("tests/oss/test_xml.py",),
    ),
    Mutation(
        "a secret is shown as paths quote it",
        "backends/oss/redaction.py",
        'in_path = quote(secret, safe=""), quote(secret, safe="/")',
        'in_path = quote(secret, safe=""), secret',
        ("tests/oss/test_redaction.py",),
    ),
    Mutation(
        "a part of a secret is shown",
        "backends/oss/redaction.py",
        "_RUN = 12",
        "_RUN = 20",
        ("tests/oss/test_redaction.py",),
    ),
    Mutation(
        "the signature is shown",
        "backends/oss/backend.py",
        "        return (*sent.issued.credentials.secrets, *self._transport.secrets, *own)",
        "        return (*sent.issued.credentials.secrets, *self._transport.secrets)",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the password of a proxy is shown",
        "backends/oss/backend.py",
        "        return (*sent.issued.credentials.secrets, *self._transport.secrets, *own)",
        "        return (*sent.issued.credentials.secrets, *own)",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "the id of a request is shown as it came",
        "backends/oss/errors.py",
        'word(document.get("RequestId"), request_id)',
        'document.get("RequestId") or request_id',
        ("tests/oss/test_errors.py",),
    ),
    Mutation(
        "where a redirect points is shown as it came",
        "backends/oss/errors.py",
        'location = word(answer.headers.get("location"))',
        'location = answer.headers.get("location")',
        ("tests/oss/test_errors.py",),
    ),
    Mutation(
        "a broken configuration is the context of its error",
        "backends/oss/ossutil.py",
        '    except configparser.Error:\n        return "is not a configuration file of ossutil"',
        '    except configparser.Error:\n        raise InvalidInput(f"{file} is not a configuration file of ossutil") from None',
        ("tests/oss/test_ossutil.py",),
    ),
    Mutation(
        "HTTP_PROXY is read",
        "backends/_http/proxies.py",
        '"http": ("http_proxy",)',
        '"http": ("http_proxy", "HTTP_PROXY")',
        ("tests/oss/http/test_proxies.py",),
    ),
    Mutation(
        "this machine is reached by the environment's proxy",
        "backends/_http/proxies.py",
        " or is_loopback(host)",
        "",
        ("tests/oss/http/test_proxies.py",),
    ),
    Mutation(
        "a callback is posted to anything",
        "backends/oss/options.py",
        "not all(map(_is_callback_url, urls))",
        "False",
        ("tests/oss/test_options.py",),
    ),
    Mutation(
        "a head may be twice as long", HTTP1, "HEAD_BYTES_MAX = 64 * 1024", "HEAD_BYTES_MAX = 128 * 1024", HTTP1_TESTS
    ),
    Mutation(
        "a head is refused a little early",
        HTTP1,
        "if held > longest:\n                raise TooLong",
        "if held >= longest:\n                raise TooLong",
        HTTP1_TESTS,
    ),
    Mutation(
        "a body may be twice as long",
        HTTP1,
        "BODY_BYTES_MAX = 8 * 1024 * 1024",
        "BODY_BYTES_MAX = 16 * 1024 * 1024",
        HTTP1_TESTS,
    ),
    Mutation(
        "a body may have half of its length",
        HTTP1,
        "BODY_BYTES_MAX = 8 * 1024 * 1024",
        "BODY_BYTES_MAX = 4 * 1024 * 1024",
        HTTP1_TESTS,
    ),
    Mutation(
        "the largest body by its length is refused",
        HTTP1,
        "int(length) > BODY_BYTES_MAX",
        "int(length) >= BODY_BYTES_MAX",
        HTTP1_TESTS,
    ),
    Mutation(
        "a trailer is refused a little early",
        HTTP1,
        "if trailer > HEAD_BYTES_MAX",
        "if trailer >= HEAD_BYTES_MAX",
        HTTP1_TESTS,
    ),
    Mutation("more is received at a time", HTTP1, "_RECEIVE = 64 * 1024", "_RECEIVE = 256 * 1024", HTTP1_TESTS),
    Mutation("one interim answer more is borne", HTTP1, "_INTERIM_MAX = 8", "_INTERIM_MAX = 9", HTTP1_TESTS),
    Mutation("one interim answer fewer is borne", HTTP1, "_INTERIM_MAX = 8", "_INTERIM_MAX = 7", HTTP1_TESTS),
    Mutation(
        "the last of the interim answers is taken for the final one",
        HTTP1,
        "if status >= 200:",
        "if status >= 199:",
        HTTP1_TESTS,
    ),
    Mutation("the length of a chunk may be longer", HTTP1, "len(size_text) <= 16", "len(size_text) <= 17", HTTP1_TESTS),
    Mutation(
        "the length of a chunk must be shorter", HTTP1, "len(size_text) <= 16", "len(size_text) < 16", HTTP1_TESTS
    ),
    Mutation(
        "a storage class of the service is refused",
        OPTIONS,
        ', "ColdArchive", "DeepColdArchive")',
        ', "ColdArchive")',
        OPTIONS_TESTS,
    ),
    Mutation(
        "an access rule of the service is refused",
        OPTIONS,
        ', "public-read", "public-read-write")',
        ', "public-read")',
        OPTIONS_TESTS,
    ),
    Mutation(
        "an encryption of the service is refused",
        OPTIONS,
        '("AES256", "KMS", "SM4")',
        '("AES256", "KMS")',
        OPTIONS_TESTS,
    ),
    Mutation(
        "a form is refused as the body of a callback",
        OPTIONS,
        '("application/x-www-form-urlencoded", "application/json")',
        '("application/json",)',
        OPTIONS_TESTS,
    ),
    Mutation(
        "a callback may have more bytes than the service takes",
        OPTIONS,
        "CALLBACK_BYTES_MAX = 5 * KIB",
        "CALLBACK_BYTES_MAX = 6 * KIB",
        OPTIONS_TESTS,
    ),
    Mutation(
        "a callback is refused a little early",
        OPTIONS,
        "len(text) > CALLBACK_BYTES_MAX",
        "len(text) >= CALLBACK_BYTES_MAX",
        OPTIONS_TESTS,
    ),
    Mutation(
        "a provider that failed is asked at once",
        CREDENTIALS,
        "_PAUSE_AFTER_FAILURE = 10.0",
        "_PAUSE_AFTER_FAILURE = 5.0",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a provider that failed is left alone for longer",
        CREDENTIALS,
        "_PAUSE_AFTER_FAILURE = 10.0",
        "_PAUSE_AFTER_FAILURE = 20.0",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a pause keeps credentials that have expired",
        CREDENTIALS,
        "paused if issued.good_until is None else min(paused, issued.good_until)",
        "paused",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a client is asked again later", CREDENTIALS, "_HOLD_SECONDS = 30.0", "_HOLD_SECONDS = 60.0", CREDENTIALS_TESTS
    ),
    Mutation(
        "a client is asked again sooner", CREDENTIALS, "_HOLD_SECONDS = 30.0", "_HOLD_SECONDS = 15.0", CREDENTIALS_TESTS
    ),
    Mutation(
        "credentials are used at the second at which they expire",
        CREDENTIALS,
        "now < issued.good_until",
        "now <= issued.good_until",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a URL for a week is refused", SIGNING, "1 <= expires_in <= PRESIGN", "1 <= expires_in < PRESIGN", SIGNING_TESTS
    ),
    Mutation(
        "a URL for a second is refused", SIGNING, "if not 1 <= expires_in", "if not 1 < expires_in", SIGNING_TESTS
    ),
    Mutation(
        "a connection is idle for longer",
        CONNECTIONS,
        "_IDLE_SECONDS_MAX = 50.0",
        "_IDLE_SECONDS_MAX = 50.5",
        CONNECTIONS_TESTS,
    ),
    Mutation("a connection is idle for less", CONNECTIONS, "since >= oldest", "since > oldest", CONNECTIONS_TESTS),
    Mutation(
        "a connection is trusted for longer",
        CONNECTIONS,
        "_RECENT_SECONDS = 1.0",
        "_RECENT_SECONDS = 2.0",
        CONNECTIONS_TESTS,
    ),
    Mutation(
        "a connection is trusted for less",
        CONNECTIONS,
        "_RECENT_SECONDS = 1.0",
        "_RECENT_SECONDS = 0.5",
        CONNECTIONS_TESTS,
    ),
    Mutation(
        "a connection of a second ago is trusted",
        CONNECTIONS,
        "if since > recent",
        "if since >= recent",
        CONNECTIONS_TESTS,
    ),
    Mutation("a tab at the end of a value is kept", HTTP1, ' or "\\t\\r" in lines', "", HTTP1_TESTS),
    Mutation(
        "a length of thousands of digits is read", HTTP1, "len(length) > 12 or int(length)", "int(length)", HTTP1_TESTS
    ),
    Mutation(
        "letters beyond ASCII are not encoded",
        SIGNING,
        "text if text.isalnum() and text.isascii()",
        "text if text.isalnum()",
        SIGNING_TESTS,
    ),
    Mutation(
        "additional headers are found in their own case alone",
        SIGNING,
        "asked & {name.lower() for name in headers}",
        "asked & set(headers)",
        SIGNING_TESTS,
    ),
    Mutation(
        "a V1 URL expires at a fraction of a second",
        SIGNING,
        "str(int(time) + expires_in)",
        "str(time + expires_in)",
        SIGNING_TESTS,
    ),
    Mutation(
        "a long list of parts comes in larger pieces",
        DOCUMENTS,
        "_PIECE_BYTES = 64 * 1024",
        "_PIECE_BYTES = 128 * 1024",
        DOCUMENTS_TESTS,
    ),
    Mutation(
        "each part of a long list is a piece", DOCUMENTS, "if len(piece) > _PIECE_BYTES:", "if piece:", DOCUMENTS_TESTS
    ),
    Mutation(
        "a checksum may have any number of digits", DOCUMENTS, "len(text) <= 20 and (value", "(value", DOCUMENTS_TESTS
    ),
    Mutation(
        "a checksum may have a digit more",
        DOCUMENTS,
        "len(text) <= 20 and (value",
        "len(text) <= 21 and (value",
        DOCUMENTS_TESTS,
    ),
    Mutation(
        "a document type without an entity is read", DOCUMENTS, ' or "<!DOCTYPE" in text or', " or", DOCUMENTS_TESTS
    ),
    Mutation(
        "the last page is known in lower case alone",
        DOCUMENTS,
        '_text(page, "IsTruncated").lower()',
        '_text(page, "IsTruncated")',
        DOCUMENTS_TESTS,
    ),
    Mutation(
        "the bucket's name is refused at the front of any host",
        ADDRESSING,
        'if addressing_style == "virtual" and host.startswith',
        "if host.startswith",
        ADDRESSING_TESTS,
    ),
    Mutation(
        "white space around a region is refused",
        ADDRESSING,
        "region.strip().removeprefix",
        "region.removeprefix",
        ADDRESSING_TESTS,
    ),
    Mutation(
        "an endpoint of many regions is one of no region",
        ADDRESSING,
        "if region is not None and any(name",
        "if any(name",
        ADDRESSING_TESTS,
    ),
    Mutation(
        "a header that is no text breaks",
        OPTIONS,
        "if not isinstance(value, str) or not value:",
        "if not value:",
        OPTIONS_TESTS,
    ),
    Mutation(
        "the service is not asked for its parts",
        OPTIONS,
        "    lists_parts=True,",
        "    lists_parts=False,",
        OPTIONS_TESTS,
    ),
    Mutation(
        "the service is not asked for checksums of parts",
        OPTIONS,
        "    part_checksums=True,",
        "    part_checksums=False,",
        OPTIONS_TESTS,
    ),
    Mutation(
        "the service is not asked for checksums of objects",
        OPTIONS,
        "    object_checksums=True,",
        "    object_checksums=False,",
        OPTIONS_TESTS,
    ),
    Mutation(
        "credentials that never change are asked for again",
        CREDENTIALS,
        "    renewable = False",
        "    renewable = True",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "credentials that can't be renewed are asked for again",
        CREDENTIALS,
        "        if not self.provider.renewable:\n            return None\n",
        "",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a refusal is answered by each thread for itself",
        CREDENTIALS,
        "        with self._lock():\n            current = self._issued",
        "        if True:\n            current = self._issued",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "the same credentials again are asked for by every thread",
        CREDENTIALS,
        "before.generation + (refused or credentials != before.credentials)",
        "before.generation + (credentials != before.credentials)",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "credentials that were renewed early do not count",
        CREDENTIALS,
        "before.generation + (refused or credentials != before.credentials)",
        "before.generation + refused",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a child's threads ask for credentials at once",
        CREDENTIALS,
        "            self._pid = os.getpid()\n        return self._fetching",
        "        return self._fetching",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a secret that is no text breaks",
        CREDENTIALS,
        "if not isinstance(value, str) or not value:",
        "if not value:",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a token is not among the secrets",
        CREDENTIALS,
        "for secret in (self.access_key_secret, self.security_token) if secret",
        "for secret in (self.access_key_secret,) if secret",
        CREDENTIALS_TESTS,
    ),
    Mutation("a page size can't be given by a URL's settings", URLS, '    "page_size",\n', "", URLS_TESTS),
    Mutation("a name for the client can't be given by a URL's settings", URLS, '    "user_agent",\n', "", URLS_TESTS),
    Mutation(
        "an empty endpoint in the environment is one",
        URLS,
        'os.environ.get("OSS_ENDPOINT") or None',
        'os.environ.get("OSS_ENDPOINT")',
        URLS_TESTS,
    ),
    Mutation(
        "a list of pages of one entry is asked for a hundred thousand times",
        "backends/oss/backend.py",
        "if short > _SHORT_PAGES_MAX:",
        "if short > most:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "an ETag of any length is kept for each part",
        "backends/oss/backend.py",
        "if len(etag) > NAME_MAX:",
        "if False:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a part is sent for ever at a byte a second",
        "backends/_http/timeouts.py",
        "if sent < (time.monotonic() - begun - _kernel_limit(sock)) * _RATE_MIN:",
        "if sent < 0:",
        ("tests/oss/http/test_timeouts.py",),
    ),
    Mutation(
        "a single pause is taken for slowness",
        "backends/_http/timeouts.py",
        "(time.monotonic() - begun - _kernel_limit(sock))",
        "(time.monotonic() - begun)",
        ("tests/oss/http/test_timeouts.py",),
    ),
    Mutation(
        "what is not HTTP is tried again where the part was not taken",
        "backends/oss/transport.py",
        "if broken is not None and not certain:",
        "if broken is not None:",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "what a server does not know is asked again and again",
        "backends/oss/errors.py",
        "if status >= 500 and status not in LASTING_FAILURES:",
        "if status >= 500:",
        ("tests/oss/test_errors.py",),
    ),
]
