"""Mutations of the S3 backend."""

from __future__ import annotations

from mutated.mutation import Mutation

S3_BACKEND = "backends/s3/backend.py"
S3_CLIENT = "backends/s3/client.py"
S3_ERRORS = "backends/s3/errors.py"
S3_OPTIONS = "backends/s3/options.py"
S3_SIGNING = "backends/s3/signing.py"
S3_ADDRESSING = "backends/s3/addressing.py"
S3_DIALECTS = "backends/s3/dialects.py"
S3_XML = "backends/s3/xml.py"
S3_URLS = "backends/s3/urls.py"
S3_PROBE = "backends/s3/probe.py"
S3_PROBING = "backends/s3/probing.py"
S3_FLAGS = "backends/s3/flags.py"
S3_CREDENTIALS = "backends/s3/credentials.py"
S3_METADATA = "backends/s3/metadata.py"
S3_PROFILES = "backends/s3/profiles.py"
XML = "backends/_http/xml.py"
S3_BACKEND_TESTS = ("tests/s3/test_backend.py",)
S3_ERRORS_TESTS = ("tests/s3/test_errors.py",)
S3_OPTIONS_TESTS = ("tests/s3/test_options.py",)
S3_SIGNING_TESTS = ("tests/s3/test_signing.py",)
S3_ADDRESSING_TESTS = ("tests/s3/test_addressing.py",)
S3_DIALECTS_TESTS = ("tests/s3/test_dialects.py",)
S3_PROBE_TESTS = ("tests/s3/test_probe.py",)
S3_CREDENTIALS_TESTS = ("tests/s3/test_credentials.py",)
S3_EMULATORS_TESTS = ("tests/s3/test_emulators.py",)
S3_URLS_TESTS = ("tests/s3/test_urls.py",)

MUTATIONS = [
    # --- what is sent ------------------------------------------------------------------------------------------------
    Mutation(
        "the checksum of the object is not sent with its parts",
        S3_BACKEND,
        "        if folded is not None:\n",
        "        if False:\n",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "the checksum of some of the parts is sent as that of the object",
        S3_BACKEND,
        "algorithm.fold(known) if len(known) == len(parts) else None",
        "algorithm.fold(known)",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "no checksum of the whole object is asked for",
        S3_BACKEND,
        '            headers["x-amz-checksum-type"] = "FULL_OBJECT"\n',
        "",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a digest before the request counts as progress",
        S3_BACKEND,
        "exact_chunks(body, what, counted=False)",
        "exact_chunks(body, what)",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "bodies are not signed over plain http",
        S3_BACKEND,
        "self._signs_payload = is_plain if sign_payload is None else sign_payload",
        "self._signs_payload = bool(sign_payload)",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "the key of the customer is sent unencrypted",
        S3_BACKEND,
        "self._is_exposed and isinstance(options, S3Options)",
        "False and isinstance(options, S3Options)",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a name that a resolver may send elsewhere is this machine",
        "backends/_http/addresses.py",
        'return name == "localhost" or (is_ip',
        "return is_local_name(name) or (is_ip",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a bucket that demands checksums is asked again without one",
        S3_CLIENT,
        "            self._learned.parts_need_checksums = True\n",
        "",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a bucket that refuses a checksum is asked again and again",
        S3_CLIENT,
        " and not _HAS_CHECKSUM.search(head)",
        "",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "an object that exists is noticed only at the end",
        S3_BACKEND,
        "if options.forbid_overwrite and self._is_known_to_exist(key):",
        "if False:",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "dots in the name of a bucket break TLS",
        S3_ADDRESSING,
        'return scheme == "https" and "." in bucket',
        "return False",
        S3_ADDRESSING_TESTS,
    ),
    Mutation(
        "the region of an access point is that of the caller",
        S3_ADDRESSING,
        '        region=region,\n        service=found["service"],',
        '        region="us-east-1",\n        service=found["service"],',
        S3_ADDRESSING_TESTS,
    ),
    Mutation(
        "white space in a header is signed as it is",
        S3_SIGNING,
        '" ".join(value.split())',
        "value.strip()",
        S3_SIGNING_TESTS,
    ),
    Mutation(
        "a condition takes part in a part",
        S3_OPTIONS,
        'OptionRule("forbid_overwrite", "If-None-Match", APPEARANCE,',
        'OptionRule("forbid_overwrite", "If-None-Match", CREATION | APPEARANCE,',
        S3_OPTIONS_TESTS,
    ),
    Mutation(
        "the key of the customer is recorded",
        S3_OPTIONS,
        '"expected_bucket_owner", "sse_customer_key"})',
        '"expected_bucket_owner"})',
        S3_OPTIONS_TESTS,
    ),
    Mutation(
        "the key of the customer is shown",
        S3_OPTIONS,
        "sse_customer_key: str | None = field(default=None, validator=optional_string, repr=False)",
        "sse_customer_key: str | None = field(default=None, validator=optional_string)",
        S3_OPTIONS_TESTS,
    ),
    Mutation(
        "what a dialect refuses is sent",
        S3_OPTIONS,
        "if rule.option not in dialect.refused_options",
        "if True",
        S3_DIALECTS_TESTS,
    ),
    Mutation(
        "without awscrt CRC-64/NVME is used",
        S3_DIALECTS,
        "if algorithm.is_available",
        "if True",
        S3_DIALECTS_TESTS,
    ),
    # --- what is received --------------------------------------------------------------------------------------------
    Mutation(
        "an error in a response that began as a success is a success",
        S3_BACKEND,
        "        if is_error(response.body):\n",
        "        if False:\n",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a long complete times out in spite of white space",
        S3_BACKEND,
        "response_seconds=_COMPLETE_SECONDS",
        "response_seconds=None",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a composite checksum is that of the bytes",
        S3_XML,
        'if not text or "-" in text:',
        "if not text:",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "uploads are listed by key and id",
        S3_BACKEND,
        "_uploads_are_ordered = False",
        "_uploads_are_ordered = True",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a failed condition is always that of overwriting",
        S3_ERRORS,
        "special = PreconditionFailed if request.if_match else ObjectExists",
        "special = ObjectExists",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "an upload that can't be completed is completed again",
        S3_ERRORS,
        "special = UploadUnusable if request.is_complete else ServerFailed",
        "special = ServerFailed",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "an object that was made wrong is made again",
        S3_ERRORS,
        "        retryable = False  # the storage",
        "        pass  # the storage",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "a region of any text is in a hint",
        S3_ERRORS,
        "(wrong or is_redirect(response) or response.status == 400) and _REGION.fullmatch(region)",
        "(wrong or is_redirect(response) or response.status == 400) and region",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "a missing bucket is a missing object",
        S3_BACKEND,
        "            self._raise_reason(key, operation, error)\n",
        "",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "the key of the customer is not masked",
        S3_CLIENT,
        "(*_SIGNATURE.findall(head), *_CUSTOMER_KEY.findall(head))",
        "_SIGNATURE.findall(head)",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "an endpoint of the profile excludes acceleration",
        S3_URLS,
        'if not (given.get("dual_stack") or given.get("accelerate")):',
        "if True:",
        S3_URLS_TESTS,
    ),
    Mutation(
        "why HEAD of an object failed is asked for before an upload",
        S3_BACKEND,
        "            if error.status not in _WITHOUT_REASON:\n                raise\n            return False\n",
        "            return self.head_object(key) is not None\n",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a storage that fails counts as one without the object",
        S3_BACKEND,
        "            if error.status not in _WITHOUT_REASON:\n                raise\n            return False\n",
        "            return False\n",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "a conflict while an object is stored in one piece is permanent",
        S3_ERRORS,
        "special = UploadUnusable if request.is_complete else ServerFailed",
        "special = UploadUnusable",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "an object that is gone does not fail a condition",
        S3_ERRORS,
        ' or (request.if_match and code == "NoSuchKey"):',
        ":",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "a part that is too small is another error",
        S3_ERRORS,
        '"InvalidPartOrder", "EntityTooSmall"), PartRejected)',
        '"InvalidPartOrder"), PartRejected)',
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "credentials that have expired are never renewed",
        S3_ERRORS,
        'dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "InvalidToken")',
        'dict.fromkeys(("ExpiredTokenException", "InvalidToken")',
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "the clock is set by a header that a proxy may have set",
        "backends/_http/error_documents.py",
        'details.details.get("ServerTime", "")',
        '""',
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "a wait that S3 asks for is forgotten",
        S3_ERRORS,
        "retry_after=wait if retryable else None",
        "retry_after=None",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "a bare 503 to HEAD is a failure of the server",
        S3_ERRORS,
        "    elif request.is_head and status == 503:\n",
        "    elif False:\n",
        S3_ERRORS_TESTS,
    ),
    Mutation(
        "a page that does not say whether it is the last is the last for OSS, too",
        XML,
        'if optional and "IsTruncated" not in page:',
        'if "IsTruncated" not in page:',
        ("tests/oss/test_xml.py",),
    ),
    Mutation(
        "a page of parts with a marker is the last",
        XML,
        '    marked = _text(page, "NextPartNumberMarker") not in ("", "0")\n',
        "    marked = False\n",
        S3_EMULATORS_TESTS,
    ),
    Mutation(
        "a page of uploads with the marker of an id is the last",
        XML,
        ' or _text(page, "NextUploadIdMarker") != ""',
        "",
        S3_EMULATORS_TESTS,
    ),
    Mutation(
        "a list without an end is not that of gofakes3",
        S3_XML,
        "_parse_uploads(data, decode, always_says_whether_last=False)",
        "_parse_uploads(data, decode)",
        S3_EMULATORS_TESTS,
    ),
    Mutation(
        "an invalid variable of the environment is not named",
        "backends/_http/addresses.py",
        'f"{origin}: {error.message}"',
        "error.message",
        ("tests/s3/test_urls.py",),
    ),
    Mutation(
        "a region in the environment that is not used is checked",
        "backends/s3/urls.py",
        'if "region" not in given and configured.region is not None:',
        "if configured.region is not None:",
        ("tests/s3/test_urls.py",),
    ),
    Mutation(
        "a plus in a listed key is a plus",
        S3_XML,
        "unquote_plus if plus_is_space else unquote",
        "unquote",
        S3_BACKEND_TESTS,
    ),
    Mutation(
        "the security token is not sent",
        S3_SIGNING,
        '        added["x-amz-security-token"] = credentials.security_token\n',
        "        pass\n",
        S3_SIGNING_TESTS,
    ),
    # --- credentials -------------------------------------------------------------------------------------------------
    Mutation(
        "a token that can't be sent is passed on to the HTTP client",
        S3_METADATA,
        "if not (value.isascii() and value.isprintable()):",
        "if not value:",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the relative address of a container may change the host",
        S3_CREDENTIALS,
        'if relative and not relative.startswith("/"):',
        "if False:",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a time that is out of range ends in an exception of Python",
        S3_METADATA,
        "except (ValueError, OverflowError, OSError):  # which",
        "except KeyError:  # which",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "an access key that can't be used counts as a mistake of the caller",
        S3_METADATA,
        '    except InvalidInput as error:\n        raise CredentialsExpired(f"the credentials',
        '    except KeyError as error:\n        raise CredentialsExpired(f"the credentials',
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a region can lead to another host",
        S3_ADDRESSING,
        '    region = checked_region(region)\n    return f"{service}',
        '    return f"{service}',
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a metadata service is asked through a proxy",
        S3_METADATA,
        "    through_proxy: bool = False,\n    ca_bundle: str | None = None,\n) -> str:\n",
        "    through_proxy: bool = True,\n    ca_bundle: str | None = None,\n) -> str:\n",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the token service is asked without the proxy of the environment",
        "backends/s3/sts.py",
        "seconds=_SECONDS, through_proxy=True, ",
        "seconds=_SECONDS, ",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the token service has to have a certificate of the system's authorities",
        "backends/s3/sts.py",
        "through_proxy=True, ca_bundle=ca_bundle",
        "through_proxy=True",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the portal has to have a certificate of the system's authorities",
        S3_CREDENTIALS,
        "                ca_bundle=self._ca_bundle,\n            )\n        except CredentialsExpired",
        "            )\n        except CredentialsExpired",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a pipe with content is a pipe without",
        S3_PROFILES,
        "if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):",
        "if False:",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the output of a credential process has no limit",
        S3_CREDENTIALS,
        "output.extend(pipe.read(_TEXT_MAX + 1))",
        "output.extend(pipe.read())",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the command line of a credential process is in the context of its error",
        S3_CREDENTIALS,
        '            problem = f"does not end within {_PROCESS_SECONDS:g} seconds"\n',
        '            raise CredentialsExpired(f"does not end within {_PROCESS_SECONDS:g} seconds") from None\n',
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the code of a token service that refuses is not told",
        S3_METADATA,
        "        code = code_in(response)\n",
        "        code = None\n",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "an answer with credentials may have any length",
        S3_METADATA,
        "if len(response.body) > _RESPONSE_MAX:",
        "if False:",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a service that answers byte by byte is waited for",
        S3_METADATA,
        "        read_timeout=seconds,\n",
        "        read_timeout=60.0,\n",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the token service of a partition has the domain of another",
        S3_ADDRESSING,
        '    ("us-iso-", "c2s.ic.gov"),\n',
        "",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the files of AWS are read a second time for credentials",
        S3_URLS,
        "profile=profile, files=files)\n    timeout",
        "profile=profile)\n    timeout",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the environment comes before a profile that was passed",
        S3_CREDENTIALS,
        "    if profile is not None:\n        files = files or",
        "    if profile is not None and not AWSEnvironmentCredentials(variables).present:\n        files = files or",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a profile comes before the environment",
        S3_CREDENTIALS,
        "    if own.present:\n",
        "    if own.present and not profile_name(variables):\n",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the config file comes before the credentials file",
        S3_PROFILES,
        "        profiles.setdefault(name, {}).update(values)\n",
        "        profiles[name] = values | profiles.get(name, {})\n",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a web identity comes after the profiles",
        S3_CREDENTIALS,
        'if role_arn and token_file and not chosen.get("role_arn"):',
        "if role_arn and token_file and not _has_credentials(chosen):",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "a container comes before the profiles",
        S3_CREDENTIALS,
        "    if name is not None or _has_credentials(chosen):\n",
        "    if name is not None or (_has_credentials(chosen) and not _names_container(variables)):\n",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the machine comes before a container",
        S3_CREDENTIALS,
        "    if _names_container(variables):\n        return ContainerCredentials(variables)\n",
        "",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the token of a container is sent to any host",
        S3_CREDENTIALS,
        '    if scheme != "http" or not allowed:\n',
        "    if False:\n",
        S3_CREDENTIALS_TESTS,
    ),
    Mutation(
        "the region of the profile comes before that of the environment",
        S3_PROFILES,
        "region, region_origin = _first(\n",
        'region, region_origin = _first(\n        ("", chosen.get("region")),\n',
        S3_CREDENTIALS_TESTS,
    ),
    # --- the probe ---------------------------------------------------------------------------------------------------
    Mutation(
        "a probe forgets an upload whose response was lost",
        S3_PROBING,
        "                made.uploads |= {(key, upload_id) for upload_id in self._uploads_of(key)}\n",
        "                pass\n",
        S3_PROBE_TESTS,
    ),
    Mutation(
        "a probe adds marks of deletion where versions are kept",
        S3_PROBING,
        "        if not self._has_version_ids and not versions:\n",
        "        if True:\n",
        S3_PROBE_TESTS,
    ),
    Mutation(
        "a probe deletes the versions of other objects",
        S3_PROBING,
        "for key, version in found if key in self._made.keys and version]",
        "for key, version in found]",
        S3_PROBE_TESTS,
    ),
    Mutation(
        "a probe stores objects that can't be deleted",
        S3_PROBING,
        'b"<DefaultRetention>" in asked.body',
        "False",
        S3_PROBE_TESTS,
    ),
    Mutation(
        "a condition counts as honoured if the storage refuses the header",
        S3_PROBING,
        "return None if response.says_nothing else response.is_precondition",
        "return None if response.says_nothing else True",
        S3_PROBE_TESTS,
    ),
    Mutation(
        "a dialect may offer a condition that half of the requests ignore",
        S3_PROBE,
        "return False if False in found else None if None in found else True",
        "return True in found",
        S3_PROBE_TESTS,
    ),
    Mutation(
        "what is denied counts as missing",
        S3_PROBING,
        "            return None if listed.says_nothing else []\n",
        "            return []\n",
        S3_PROBE_TESTS,
    ),
    Mutation(
        "the key of the customer may be on the command line",
        S3_FLAGS,
        'SECRETS: Mapping[str, str] = {"sse_customer_key": "--sse-customer-key-file"}',
        "SECRETS: Mapping[str, str] = {}",
        ("tests/cli/test_s3_flags.py",),
    ),
]
