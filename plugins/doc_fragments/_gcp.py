# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This document fragment is PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  project:
    description:
      - ID of the project, which is neither its name nor its number.
      - Taken from E(GCP_PROJECT) where it is left out.
    type: str
    required: true
  auth_kind:
    description:
      - Kind of the credentials, in the words of the google.cloud collection.
      - V(application) are the application default credentials; V(machineaccount) is the service account of the VM that the module runs on.
      - Taken from E(GCP_AUTH_KIND) where it is left out.
    type: str
    choices: [application, serviceaccount, machineaccount, accesstoken]
    default: application
  service_account_file:
    description:
      - Path of a service account's key, for O(auth_kind=serviceaccount).
      - Taken from E(GCP_SERVICE_ACCOUNT_FILE) where it is left out.
    type: path
  service_account_contents:
    description:
      - The key itself, as JSON or as a dictionary, for O(auth_kind=serviceaccount).
      - Taken from E(GCP_SERVICE_ACCOUNT_CONTENTS) where it is left out.
    type: jsonarg
  service_account_email:
    description:
      - Which of the VM's service accounts to use, for O(auth_kind=machineaccount). Left out, its default one.
      - Taken from E(GCP_SERVICE_ACCOUNT_EMAIL) where it is left out.
    type: str
  access_token:
    description:
      - An access token, for O(auth_kind=accesstoken). It lasts about an hour.
      - Taken from E(GCP_ACCESS_TOKEN) where it is left out.
    type: str
  scopes:
    description:
      - OAuth scopes to ask for.
      - Taken from E(GCP_SCOPES) where it is left out.
    type: list
    elements: str
    default: ["https://www.googleapis.com/auth/cloud-platform"]
  timeout:
    description:
      - Seconds to wait for an operation of Google's, and for one that is under way already.
      - One that takes longer goes on at Google, and the module fails with RV(ignore:pending=true); the next run waits for it.
    type: int
    default: 1800
attributes:
  action_group:
    description: Use C(group/selfhost.prefect.gcp) in C(module_defaults) to set the options that these modules share.
    support: full
    membership:
      - selfhost.prefect.gcp
requirements:
  - google-auth
  - requests
notes:
  - What a person asks counts as O(project)'s quota, or that of the project in C(GOOGLE_CLOUD_QUOTA_PROJECT). This takes C(serviceusage.services.use),
    which C(roles/serviceusage.serviceUsageConsumer) holds; without it, requests that name no project may be refused, as those for private services
    access are. What a service account asks counts as its own project's, unless its token is given by O(access_token).
  - An API is asked at the address in C(CLOUDSDK_API_ENDPOINT_OVERRIDES_*), gcloud's environment variables, where one is set.
  - Requests that Google answers with 429 or 5xx are repeated with growing pauses. While another operation on the same object is under way, the module waits.
"""
